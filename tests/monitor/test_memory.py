import threading
from pathlib import Path

import psutil
import pytest

from daskae.monitor import memory
from daskae.monitor.cgroup import CgroupMemory, cpu_limit, memory_limits
from daskae.monitor.memory import PeakMeter, available_memory, current_rss, peak_rss, process_limit, reset_peak

MIB = 2**20


def touch(size: int) -> int:
    """Hold `size` bytes for a moment."""
    block = bytearray(b"\x01") * size
    return len(block)


def unresettable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the process one whose peak cannot be started anew."""
    monkeypatch.setattr(memory, "reset_peak", lambda: False)


needs_reset = pytest.mark.skipif(not reset_peak(), reason="this system cannot start a peak anew")


class TestProcess:
    def test_agrees_with_psutil(self) -> None:
        assert current_rss() == pytest.approx(psutil.Process().memory_info().rss, rel=0.05)
        assert peak_rss() >= current_rss() - MIB

    @needs_reset
    def test_a_peak_can_be_forgotten(self) -> None:
        touch(100 * MIB)
        high = peak_rss()
        assert reset_peak()
        assert peak_rss() < high - 80 * MIB

    def test_no_reset_where_the_system_has_none(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def refuse(name: str, mode: str) -> None:
            raise PermissionError(f"no {name} for you")

        monkeypatch.setattr(memory, "open", refuse, raising=False)
        assert not reset_peak()
        rss, peak = memory.read_process()
        assert rss > 0
        assert peak > 0


class TestPeakMeter:
    @needs_reset
    def test_sees_what_was_freed_again(self) -> None:
        touch(200 * MIB)  # must not count
        before = current_rss()
        with PeakMeter() as meter:
            touch(100 * MIB)
        assert meter.exact
        assert meter.peak - before == pytest.approx(100 * MIB, abs=8 * MIB)

    @needs_reset
    def test_a_block_that_holds_nothing_shows_nothing(self) -> None:
        before = current_rss()
        with PeakMeter() as meter:
            pass
        assert meter.peak - before == pytest.approx(0, abs=4 * MIB)

    @needs_reset
    def test_nested_meters_each_see_their_block(self) -> None:
        before = current_rss()
        with PeakMeter() as outer:
            touch(150 * MIB)
            with PeakMeter() as inner:
                touch(50 * MIB)
        assert outer.peak - before == pytest.approx(150 * MIB, abs=8 * MIB)
        assert inner.peak - before == pytest.approx(50 * MIB, abs=8 * MIB)

    @needs_reset
    def test_the_peak_is_told_while_the_block_runs_and_stays_after_it(self) -> None:
        with PeakMeter() as meter:
            touch(60 * MIB)
            during = meter.peak
        touch(120 * MIB)
        assert meter.peak == pytest.approx(during, abs=4 * MIB)

    def test_sampling_sees_a_peak_that_lasts(self, monkeypatch: pytest.MonkeyPatch) -> None:
        unresettable(monkeypatch)
        sampled = threading.Event()
        rss = 100

        def reading() -> tuple[int, int]:
            if rss == 900:
                sampled.set()
            return rss, 1000  # a lifetime peak that tells nothing of this block

        monkeypatch.setattr(memory, "read_process", reading)
        with PeakMeter() as meter:
            rss = 900
            assert sampled.wait(60)
            rss = 200
        assert not meter.exact
        assert meter.peak == 900
        assert "daskae-memory" not in [thread.name for thread in threading.enumerate()]

    def test_without_reset_a_new_lifetime_peak_is_the_true_one(self, monkeypatch: pytest.MonkeyPatch) -> None:
        unresettable(monkeypatch)
        readings = iter([(100, 1000)])
        monkeypatch.setattr(memory, "read_process", lambda: next(readings, (150, 5000)))
        with PeakMeter() as meter:
            pass
        assert meter.peak == 5000


class TestLimits:
    def test_there_is_room_and_a_limit(self) -> None:
        assert 0 < available_memory() <= process_limit() <= psutil.virtual_memory().total

    def test_the_tightest_limit_counts(self, monkeypatch: pytest.MonkeyPatch) -> None:
        limits = [CgroupMemory(900 * MIB, 0), CgroupMemory(500 * MIB, 480 * MIB)]
        monkeypatch.setattr(memory, "memory_limits", lambda: limits)
        assert available_memory() == 20 * MIB
        assert process_limit() == 500 * MIB

    def test_over_the_limit_there_is_no_room(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(memory, "memory_limits", lambda: [CgroupMemory(5, 9)])
        assert available_memory() == 0


def write(path: Path, text: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{text}\n")


class TestCgroups:
    def test_v2_looks_at_every_level(self, tmp_path: Path) -> None:
        write(tmp_path / "cgroup", "0::/user/job")
        write(tmp_path / "fs/user/job/memory.max", "max")
        write(tmp_path / "fs/user/memory.max", 1000)
        write(tmp_path / "fs/user/memory.current", 700)
        write(tmp_path / "fs/user/memory.stat", "anon 5\ninactive_file 300\nactive_file 9")
        write(tmp_path / "fs/memory.max", 4000)
        assert memory_limits(tmp_path / "fs", tmp_path / "cgroup") == [CgroupMemory(1000, 400), CgroupMemory(4000, 0)]

    def test_v1_in_a_container_where_its_own_path_is_hidden(self, tmp_path: Path) -> None:
        write(tmp_path / "cgroup", "9:name=systemd:/\n4:cpu,memory:/docker/abc\n0::/")
        write(tmp_path / "fs/memory/memory.limit_in_bytes", 2000)
        write(tmp_path / "fs/memory/memory.usage_in_bytes", 900)
        write(tmp_path / "fs/memory/memory.stat", "inactive_file 1\ntotal_inactive_file 100")
        assert memory_limits(tmp_path / "fs", tmp_path / "cgroup") == [CgroupMemory(2000, 800)]

    def test_v1_without_a_limit(self, tmp_path: Path) -> None:
        write(tmp_path / "cgroup", "4:memory:/")
        write(tmp_path / "fs/memory/memory.limit_in_bytes", 9223372036854771712)
        assert memory_limits(tmp_path / "fs", tmp_path / "cgroup") == []

    def test_processors_of_v2(self, tmp_path: Path) -> None:
        write(tmp_path / "cgroup", "0::/user/job")
        write(tmp_path / "fs/cpu.max", "max 100000")
        write(tmp_path / "fs/user/cpu.max", "400000 100000")
        assert cpu_limit(tmp_path / "fs", tmp_path / "cgroup") == 4
        write(tmp_path / "fs/user/job/cpu.max", "150000 100000")
        assert cpu_limit(tmp_path / "fs", tmp_path / "cgroup") == 1.5

    def test_processors_of_v1(self, tmp_path: Path) -> None:
        write(tmp_path / "cgroup", "4:cpu,cpuacct:/docker/abc\n3:memory:/docker/abc")
        write(tmp_path / "fs/cpu/cpu.cfs_quota_us", "-1")
        write(tmp_path / "fs/cpu/cpu.cfs_period_us", "100000")
        assert cpu_limit(tmp_path / "fs", tmp_path / "cgroup") is None
        write(tmp_path / "fs/cpu/docker/cpu.cfs_quota_us", "300000")
        write(tmp_path / "fs/cpu/docker/cpu.cfs_period_us", "100000")
        assert cpu_limit(tmp_path / "fs", tmp_path / "cgroup") == 3

    def test_a_system_without_cgroups(self, tmp_path: Path) -> None:
        assert memory_limits(tmp_path, tmp_path / "missing") == []
