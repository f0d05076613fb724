import os
import re
import subprocess
import sys
import time
from dataclasses import replace
from datetime import date
from decimal import Decimal
from html.parser import HTMLParser
from pathlib import Path

import pytest

from daskae.report.colors import DARK, LIGHT, READABLE, Palette, contrast, heat_ramp, text_on
from daskae.report.data import MonthTotal, RejectedSample, ReportData, SegmentTotal, TopCustomer
from daskae.report.html import SAMPLE_LENGTH, render_report, write_report
from daskae.summary import RowCounts, RuleOutcome, StepOutcome, TableOutcome

from .scenes import make_data, make_summary

VOID = {"meta", "link", "br", "rect", "line", "path", "circle", "stop"}
HOSTILE = "</style></code><script>alert(1)</script><img src=\"http://evil.example/x\" onerror='x'>&amp;\x00\u202e"


class Page(HTMLParser):
    """The page as a reader's program sees it; fails when a tag is not closed."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self._open: list[str] = []
        self.feed(html)
        self.close()
        assert not self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)

    def classes(self, name: str) -> list[dict[str, str | None]]:
        return [attrs for _, attrs in self.tags if name in (attrs.get("class") or "").split()]

    @property
    def words(self) -> str:
        return " ".join(" ".join(self.text).split())


@pytest.fixture(scope="module")
def large() -> str:
    return render_report(make_summary(), make_data(60))


class TestSelfContained:
    def test_no_script_and_no_reference_to_the_outside(self, large: str) -> None:
        page = Page(large)
        assert "script" not in {tag for tag, _ in page.tags}
        for _, attributes in page.tags:
            for name, value in attributes.items():
                assert not name.startswith("on")
                if name in ("src", "href", "srcset", "action", "data", "poster", "xlink:href"):
                    assert (value or "").startswith(("#", "data:,"))
        assert all(target.startswith("#") for target in re.findall(r"url\(([^)]*)\)", large))
        assert "@import" not in large
        assert "http://" not in large
        assert "https://" not in large

    def test_the_page_itself_forbids_everything_else(self, large: str) -> None:
        policy = next(attrs["content"] for tag, attrs in Page(large).tags if "http-equiv" in attrs)
        assert policy == "default-src 'none'; style-src 'unsafe-inline'; img-src data:"

    def test_sixty_cohorts_stay_far_below_two_megabytes(self, large: str) -> None:
        assert len(large.encode()) < 1_000_000

    def test_every_link_in_the_page_leads_somewhere(self, large: str) -> None:
        page = Page(large)
        ids = {attrs["id"] for _, attrs in page.tags if "id" in attrs}
        assert {attrs["href"] for tag, attrs in page.tags if tag == "a"} <= {f"#{name}" for name in ids}

    def test_it_is_written_fast(self, tmp_path: Path) -> None:
        summary, data = make_summary(), make_data(60)
        began = time.process_time()
        write_report(tmp_path / "report.html", summary, data)
        assert time.process_time() - began < 1.0

    def test_importing_it_is_cheap(self) -> None:
        code = (
            "import sys; import daskae.report.html, daskae.report.summary_text;"
            "heavy = {'jinja2', 'matplotlib', 'pandas', 'polars', 'pyarrow', 'daskae.monitor'};"
            "sys.exit(bool(heavy & set(sys.modules)))"
        )
        assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


class TestSameBytes:
    def test_for_the_same_run_in_another_process(self, tmp_path: Path) -> None:
        path = tmp_path / "report.html"
        write_report(path, make_summary(), make_data(6))
        code = (
            "import sys; from pathlib import Path; from daskae.report.html import write_report;"
            f"sys.path.insert(0, {str(Path(__file__).parent)!r}); from scenes import make_data, make_summary;"
            "write_report(Path(sys.argv[1]), make_summary(), make_data(6))"
        )
        other = tmp_path / "other.html"
        environment = os.environ | {"PYTHONHASHSEED": "7", "TZ": "Asia/Tokyo", "LC_ALL": "C", "PYTHONUTF8": "0"}
        subprocess.run([sys.executable, "-c", code, str(other)], check=True, env=environment)
        assert other.read_bytes() == path.read_bytes()

    def test_an_old_report_is_replaced_whole(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        path = tmp_path / "report.html"
        path.write_text("old")

        def fail(*names: object) -> None:
            raise OSError("disk full")

        with monkeypatch.context() as patch:
            patch.setattr(os, "replace", fail)
            with pytest.raises(OSError, match="disk full"):
                write_report(path, make_summary(), ReportData())
        assert path.read_text() == "old"
        assert [entry.name for entry in tmp_path.iterdir()] == ["report.html"]
        write_report(path, make_summary(), ReportData())
        assert path.read_text("utf-8").startswith("<!doctype html>")


class TestHostileText:
    def page(self) -> str:
        summary = make_summary(
            run_id=HOSTILE,
            rows=RowCounts(2, 1, 1, {HOSTILE: 1}),
            tables={HOSTILE: TableOutcome(1, HOSTILE)},
            kpis={HOSTILE: HOSTILE},
            seconds={HOSTILE: 1.0, "total": 1.0},
            rules=(RuleOutcome(HOSTILE, HOSTILE, False, 1, 1, HOSTILE),),
            inputs=(HOSTILE,),
            engine=HOSTILE,
            as_of=HOSTILE,
            message=HOSTILE,
            run_dir=HOSTILE,
            quarantine=HOSTILE,
            load_id=HOSTILE,
        )
        data = make_data(
            2,
            title=HOSTILE,
            currency=HOSTILE,
            rfm={HOSTILE: (1, 2, 3, 4, 5)},
            segments={HOSTILE: SegmentTotal(1, Decimal(1))},
            top_customers=(TopCustomer(HOSTILE, Decimal(1), 1),),
            samples={HOSTILE: (RejectedSample(HOSTILE, 1, HOSTILE),)},
            definitions=((HOSTILE, HOSTILE),),
            settings=HOSTILE,
            versions={HOSTILE: HOSTILE},
        )
        return render_report(summary, data)

    def test_is_text_and_nothing_else(self) -> None:
        html = self.page()
        page = Page(html)
        assert {"script", "img"}.isdisjoint(tag for tag, _ in page.tags)
        assert all(not name.startswith("on") for _, attrs in page.tags for name in attrs)
        assert page.words.count("<script>alert(1)</script>") >= 20
        assert not re.search(r"[\x00-\x08\x0b-\x1f\u202e]", html)
        assert "\\x00\\u202e" in page.words

    def test_names_that_are_not_unicode_can_be_written(self, tmp_path: Path) -> None:
        name = os.fsdecode(b"caf\xe9.csv")
        data = ReportData(samples={"rule": (RejectedSample(name, 1, name),)}, settings=name)
        write_report(tmp_path / "report.html", make_summary(inputs=(name,), message=name, run_dir=name), data)
        assert "caf\\udce9.csv" in (tmp_path / "report.html").read_text("utf-8")

    def test_long_rows_are_shortened(self) -> None:
        data = ReportData(samples={"rule": (RejectedSample("a.csv", 1, "x" * 10_000),)})
        longest = max(re.findall("x+…?", render_report(make_summary(), data)), key=len)
        assert longest == "x" * (SAMPLE_LENGTH - 1) + "…"


class TestContent:
    def test_the_figures_are_those_of_the_terminal(self) -> None:
        words = Page(render_report(make_summary(), make_data())).words
        for text in (
            "8,911,407.90",
            "4,338",
            "1.48 %",
            "73.42 %",
            "26.58 %",
            "93.79 %",
            "12 of 48 reused",
            "512.0 MiB",
        ):
            assert text in words
        assert "Orders from 1 Jan 2010 to 9 Dec 2011 · as of 9 Dec 2011 · 541,909 rows from 305 files" in words
        assert "2 of 3 passed" in words

    def test_every_known_cell_shows_the_given_rate_and_the_rest_is_blank(self) -> None:
        data = make_data(12)
        html = render_report(make_summary(), data)
        table = html[html.index('aria-label="Retention by cohort and month"') : html.index('aria-label="Rolling')]
        body = table[table.index("<tbody>") : table.index("</tbody>")]
        cells = re.findall(r'<td class="(h\d+(?: p)?)" title="([\d,]+ of [\d,]+)">([\d.]+)</td>', body)
        assert [text for _, _, text in cells] == [
            "100" if cell.retention == 1 else f"{100 * cell.retention:.1f}" for cell in data.cohorts
        ]
        assert [hint for _, hint, _ in cells] == [
            f"{cell.active_customers} of {cell.cohort_size}" for cell in data.cohorts
        ]
        assert [css.endswith(" p") for css, _, _ in cells] == [cell.is_partial for cell in data.cohorts]
        assert body.count('<td class="u"></td>') == 12 * 11 // 2

    def test_a_hole_in_a_cohort_is_blank_too(self) -> None:
        data = make_data(4)
        holed = replace(data, cohorts=data.cohorts[:1] + data.cohorts[2:])
        assert render_report(make_summary(), holed).count('<td class="u"></td>') == 3 * (6 + 1)

    def test_all_three_cohort_tables_and_the_charts_are_there(self) -> None:
        page = Page(render_report(make_summary(), make_data()))
        assert len(page.classes("heat")) == 3
        assert [attrs["aria-label"] for attrs in page.classes("chart")] == [
            "Cumulative lifetime value by cohort",
            "Revenue by month",
            "Active customers by month",
        ]
        assert len(page.classes("curve")) == 24
        assert len(page.classes("part")) == 2  # the last month, in both column charts

    def test_samples_stand_under_their_rule(self) -> None:
        words = Page(render_report(make_summary(), make_data())).words
        assert "customer_id is missing: 5 samples File Row Raw text orders/2010-12-01.csv 712 536414,22139,,56" in words

    def test_steps_corrections_and_quality(self) -> None:
        steps = (StepOutcome("no_<tests>", "after_rules", 9_000, 8_990, 3, 4, 1, 1.5),)
        quality = {
            "columns": {"am\x1bount": {"cells": 9, "good": 8, "score": 8 / 9}},
            "rows": {"rows": 9, "mean_score": 0.75, "histogram": []},
        }
        page = Page(render_report(make_summary(steps=steps, quality=quality, corrected_rows=1_234), make_data()))
        assert "no_<tests> after rules 9,000 8,990 10 3 1 of 4 1.50 s" in page.words
        assert "1,234 of those read are corrections of rejected rows" in page.words
        assert "satisfies 75.00 % of the row rules" in page.words
        assert "am\\x1bount 9 8 88.89 %" in page.words
        assert "/data/shop/runs/20260131-120000-3f9a/profile.json" in page.words
        plain = Page(render_report(make_summary(), make_data()))
        assert not {"#steps", "#quality"} & {attrs["href"] for tag, attrs in plain.tags if tag == "a"}
        assert "corrections" not in plain.words

    def test_masked_reports_name_nobody(self) -> None:
        data = make_data()
        html = render_report(make_summary(), replace(data, mask_customers=True))
        assert not any(f">{customer.customer_id}<" in html for customer in data.top_customers)
        assert "536414,22139" not in html
        assert "orders/2010-12-01.csv" in html

    def test_too_many_cohorts_are_cut_to_the_newest_and_it_says_so(self) -> None:
        page = Page(render_report(make_summary(), make_data(75)))
        assert "The 15 oldest cohorts and months from 60 on are left out here" in page.words
        assert len(page.classes("curve")) == 60
        assert "Dec 2006 " not in page.words.split("Cohort retention")[1].split("Calendar months")[0]

    def test_what_is_empty_is_left_out(self) -> None:
        summary = make_summary(
            status="refused",
            rows=RowCounts(9, 0, 9, {"a": 9}),
            kpis={},
            tables={},
            rules=(),
            message="too many\n  got: 9",
        )
        page = Page(render_report(summary, ReportData()))
        assert "There are none: no row was accepted, or the run ended before they were worked out." in page.words
        assert "Refused to publish: the target is as it was" in page.words
        assert "too many got: 9" in page.words
        assert "Nothing was published." in page.words
        assert not page.classes("heat")
        assert not page.classes("chart")

    def test_a_run_that_read_nothing(self) -> None:
        page = Page(render_report(make_summary(rows=RowCounts(0, 0, 0, {}), seconds={}), ReportData()))
        assert "No row was rejected." in page.words

    def test_one_customer_one_month_and_losses(self) -> None:
        month = MonthTotal(date(2024, 2, 1), 1, 1, 1, Decimal("-5.50"))
        data = make_data(
            1,
            months=(month,),
            segments={"all": SegmentTotal(0, Decimal(0))},
            top_customers=(TopCustomer("1", Decimal("-5.50"), 1),),
            rfm={"recency": (0, 0, 0, 0, 0)},
        )
        page = Page(render_report(make_summary(), data))
        assert "-5.50" in page.words
        assert len(page.classes("curve")) == 1


@pytest.mark.parametrize("palette", [LIGHT, DARK], ids=["light", "dark"])
class TestContrast:
    def test_every_shade_of_the_heat_maps(self, palette: Palette) -> None:
        for shade in heat_ramp(palette):
            assert contrast(text_on(shade, palette), shade) >= READABLE

    def test_all_other_text(self, palette: Palette) -> None:
        for text in (palette.ink, palette.muted, palette.accent, palette.signal):
            assert contrast(text, palette.paper) >= READABLE
        for text in (palette.ink, palette.muted):
            assert contrast(text, palette.card) >= READABLE

    def test_shades_are_told_apart(self, palette: Palette) -> None:
        shades = heat_ramp(palette)
        light = [contrast(shade, palette.paper) for shade in shades]
        assert light == sorted(light)
        assert len(set(shades)) == len(shades)

    def test_the_page_uses_these_colours(self, palette: Palette) -> None:
        html = render_report(make_summary(), ReportData())
        for step, shade in enumerate(heat_ramp(palette)):
            assert f".h{step}{{background:{shade};color:{text_on(shade, palette)}}}" in html


def test_contrast_is_that_of_wcag() -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.005)
    assert contrast("#ff0000", "#0000ff") == pytest.approx(2.15, abs=0.005)
