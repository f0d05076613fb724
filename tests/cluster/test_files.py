"""The files that people copy from `cluster/`: each is read as what reads it later would."""

import ast
import importlib.util
import json
import re
import shlex
import subprocess
import tomllib
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml

from daskae.config import ClusterSettings, load_settings
from daskae.config.clusters import KubernetesSettings, SlurmSettings
from daskae.engine.kubernetes import cluster_spec
from tests.support import ROOT

FOLDER = ROOT / "cluster"
FILES = sorted(path for path in FOLDER.rglob("*") if path.is_file())
KUBERNETES = "1.30"


def files(pattern: str) -> list[Path]:
    found = sorted(FOLDER.rglob(pattern))
    assert found, pattern
    return found


def test_every_file_has_its_test() -> None:
    known = {".sbatch", ".toml", ".yaml", ".md"}
    assert {path.name for path in FILES if path.suffix not in known} == {"Dockerfile", "crontab"}
    assert not list(FOLDER.rglob("*.py"))


@pytest.mark.parametrize("path", files("*.sbatch"), ids=lambda path: path.name)
def test_scripts_are_bash_and_name_their_options(path: Path) -> None:
    assert subprocess.run(["bash", "-n", str(path)], check=False).returncode == 0
    directives = [line for line in path.read_text().splitlines() if line.startswith("#SBATCH ")]
    assert {"--time", "--requeue", "--output", "--job-name"} <= {
        line.split()[1].partition("=")[0] for line in directives
    }
    assert "-eq 75 ]" in path.read_text()


@pytest.mark.parametrize("path", files("*.toml"), ids=lambda path: f"{path.parent.name}-{path.name}")
def test_settings_are_settings(path: Path) -> None:
    given = tomllib.loads(path.read_text())
    settings = load_settings({}, path).cluster
    for table, kind in (("slurm", settings.slurm), ("kubernetes", settings.kubernetes), ("tls", settings.tls)):
        assert set(given["cluster"].get(table, {})) <= set(type(kind).model_fields)
    # What stands there as a comment is right, too.
    commented = re.sub(r"^# (\w+ += )", r"\1", path.read_text(), flags=re.MULTILINE)
    assert len(tomllib.loads(commented)["cluster"]) >= len(given["cluster"])


def test_commented_settings_are_right(tmp_path: Path) -> None:
    text = (FOLDER / "slurm" / "workers.toml").read_text()
    (tmp_path / "all.toml").write_text(re.sub(r"^# (\w+ = )", r"\1", text, flags=re.MULTILINE))
    settings = load_settings({}, tmp_path / "all.toml").cluster
    assert settings.adaptive is not None
    assert settings.adaptive.maximum == 20
    assert settings.slurm.queue == "batch"
    assert settings.slurm.job_extra == ["--constraint=skylake"]
    assert set(tomllib.loads((tmp_path / "all.toml").read_text())["cluster"]["slurm"]) == set(
        SlurmSettings.model_fields
    )


# --- Kubernetes


@cache
def schemas() -> dict[str, Any]:
    """Schemas of the operator's own resources, by kind, closed so that a misspelt key is an error."""
    spec = importlib.util.find_spec("dask_kubernetes")
    assert spec is not None
    assert spec.submodule_search_locations is not None
    (place,) = spec.submodule_search_locations
    found = {}
    for path in sorted(Path(place).glob("operator/deployment/helm/*/crds/*.yaml")):
        definition = yaml.safe_load(path.read_text())["spec"]
        (version,) = [item for item in definition["versions"] if item["served"]]
        found[definition["names"]["kind"]] = closed(version["schema"]["openAPIV3Schema"])
    assert set(found) == {"DaskCluster", "DaskWorkerGroup", "DaskJob", "DaskAutoscaler"}
    return found


def closed(schema: Any) -> Any:
    """Turn an OpenAPI schema of a custom resource into a JSON schema that allows nothing it does not name."""
    if isinstance(schema, list):
        return [closed(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    new = {key: closed(value) for key, value in schema.items()}
    if "properties" in new and not new.get("x-kubernetes-preserve-unknown-fields") and new["properties"]:
        new.setdefault("additionalProperties", False)
    if new.get("x-kubernetes-int-or-string"):
        new.pop("type", None)
        new["anyOf"] = [{"type": "integer"}, {"type": "string"}]
    if new.get("nullable") and "type" in new:
        new["type"] = [new["type"], "null"]
    return new


def problems(document: dict[str, Any]) -> list[str]:
    """What the API server would say of a resource of the operator."""
    schema = {**schemas()[document["kind"]]}
    schema["properties"] = {
        **schema["properties"], "apiVersion": {"type": "string"}, "kind": {"type": "string"},
        "metadata": {"type": "object"},
    }  # fmt: skip
    return [error.message for error in jsonschema.Draft7Validator(schema).iter_errors(document)]


def documents(path: Path) -> list[dict[str, Any]]:
    return [item for item in yaml.safe_load_all(path.read_text()) if item]


def pods(document: dict[str, Any]) -> list[dict[str, Any]]:
    """Pod templates of a DaskCluster or a DaskJob, as pods."""
    spec = document["spec"]
    cluster = spec["cluster"]["spec"] if document["kind"] == "DaskJob" else spec
    found = [cluster["worker"]["spec"], cluster["scheduler"]["spec"]]
    if document["kind"] == "DaskJob":
        found.append(spec["job"]["spec"])
    return [{"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"}, "spec": item} for item in found]


@pytest.mark.parametrize("path", files("k8s/*.yaml"), ids=lambda path: path.name)
def test_manifests_are_what_kubernetes_takes(path: Path) -> None:
    for document in documents(path):
        if document["kind"].startswith("Dask"):
            assert problems(document) == []
            for pod in pods(document):
                kubernetes_validate.validate(pod, KUBERNETES, strict=True)
        else:
            kubernetes_validate.validate(document, KUBERNETES, strict=True)


def test_the_cluster_that_a_run_creates_is_what_kubernetes_takes() -> None:
    settings = ClusterSettings(
        kubernetes=KubernetesSettings(volume_claim="daskae-data", env={"A": "b"}, cpu=0.5, memory="2GiB")
    )
    document = cluster_spec(settings, 3)
    assert problems(document) == []
    for pod in pods(document):
        kubernetes_validate.validate(pod, KUBERNETES, strict=True)
    assert document["spec"]["worker"]["replicas"] == 3
    worker, scheduler = (pod["spec"]["containers"][0] for pod in pods(document))
    assert worker["args"][:2] == ["dask", "worker"]
    assert scheduler["args"][:2] == ["dask", "scheduler"]
    assert worker["resources"]["limits"] == {"cpu": "0.5", "memory": str(2 << 30)}
    assert worker["volumeMounts"] == scheduler["volumeMounts"] == [{"name": "shared", "mountPath": "/data"}]


@pytest.mark.parametrize(
    "damage",
    [
        lambda spec: spec["worker"].update(replicas="many"),
        lambda spec: spec["worker"].update(replica=1),
        lambda spec: spec["worker"]["spec"]["containers"][0].pop("name"),
        lambda spec: spec["scheduler"]["spec"]["containers"][0].update(arg=["dask"]),
    ],
)
def test_the_check_finds_mistakes(damage: Any) -> None:
    (document,) = documents(FOLDER / "k8s" / "cluster.yaml")
    damage(document["spec"])
    assert problems(document)


# --- the rest


def test_compose_services_fit_together() -> None:
    (compose,) = documents(FOLDER / "compose.yaml")
    services = compose["services"]
    assert set(services) == {"scheduler", "worker", "daskae"}
    assert services["worker"]["command"][:3] == ["dask", "worker", "tcp://scheduler:8786"]
    assert services["scheduler"]["command"][:2] == ["dask", "scheduler"]
    # Nothing but the dashboard is published, and that on loopback.
    published = [port for service in services.values() for port in service.get("ports", [])]
    assert published == ["127.0.0.1:8787:8787"]
    assert (FOLDER / services["worker"]["build"]["context"] / services["worker"]["build"]["dockerfile"]).is_file()


def test_the_image_copies_what_there_is() -> None:
    lines = [line for line in (FOLDER / "Dockerfile").read_text().splitlines() if line and not line.startswith("#")]
    words = [shlex.split(line) for line in lines]
    assert {word[0] for word in words} <= {"FROM", "COPY", "RUN", "USER", "WORKDIR", "ENV"} | {"CMD"}
    for word in words:
        if word[0] == "COPY":
            assert all((ROOT / name).exists() for name in word[1:-1])
        if word[0] == "CMD":
            assert json.loads(lines[words.index(word)].removeprefix("CMD "))[:3] == [
                "python",
                "-m",
                "jobs.customer_metrics",
            ]
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    (named,) = re.findall(r"/src\[([\w,]+)\]", " ".join(lines))
    assert set(named.split(",")) <= set(extras)


def test_dask_configuration_has_keys_that_dask_knows() -> None:
    import distributed

    (ours,) = documents(FOLDER / "dask.yaml")
    known = yaml.safe_load((Path(distributed.__file__).parent / "distributed.yaml").read_text())

    def unknown(mine: Any, theirs: Any, at: str) -> list[str]:
        if not isinstance(mine, dict) or at.endswith("pre-spawn-environ"):
            return []
        return [
            name
            for key, value in mine.items()
            for name in ([f"{at}.{key}"] if key not in theirs else unknown(value, theirs[key], f"{at}.{key}"))
        ]

    assert unknown(ours, known, "") == []


def test_the_crontab_is_one_line_of_time_and_shell() -> None:
    lines = [line for line in (FOLDER / "cron" / "crontab").read_text().splitlines() if line and line[0] not in "#S"]
    assert len(lines) == 1
    *times, command = lines[0].split(maxsplit=5)
    assert all(re.fullmatch(r"[\d*,/-]+", item) for item in times)
    assert "%" not in command  # a line break to cron
    assert subprocess.run(["bash", "-n", "-c", command], check=False).returncode == 0


@pytest.mark.parametrize("path", files("*.md"), ids=lambda path: f"{path.parent.name}-{path.name}")
def test_code_in_texts_can_be_read(path: Path) -> None:
    blocks = re.findall(r"^```(\w+)\n(.*?)^```", path.read_text(), flags=re.MULTILINE | re.DOTALL)
    assert blocks
    for kind, text in blocks:
        if kind == "python":
            ast.parse(text)
        elif kind == "toml":
            tomllib.loads(text)
        else:
            assert kind == "bash"
            assert subprocess.run(["bash", "-n", "-c", text], check=False).returncode == 0
    for name in re.findall(r"`(cluster/[\w./-]+)`|\]\(([\w./-]+)\)", path.read_text()):
        place = ROOT / name[0] if name[0] else path.parent / name[1]
        assert place.exists(), name
