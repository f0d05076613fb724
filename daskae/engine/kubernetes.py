"""Workers in pods: a DaskCluster of the Dask operator, created for the run or there already."""

from typing import Any

from daskae.allocators import ALLOCATOR_ENVIRONMENT
from daskae.config import ClusterSettings
from daskae.engine.base import JOB_SHARE
from daskae.engine.started import THREAD_VARIABLES, Started
from daskae.errors import SettingsError, WorkersUnavailableError

_VOLUME = "shared"


def start_kubernetes(settings: ClusterSettings, workers: int | None) -> Started:
    """Create a DaskCluster, or connect to one, with the credentials that ``kubectl`` would use.

    Raises
    ------
    SettingsError
        If dask-kubernetes is missing.
    WorkersUnavailableError
        If the Kubernetes API or the operator does not answer.
    """
    try:
        from dask_kubernetes.operator import KubeCluster
    except ImportError as error:
        raise SettingsError(
            "a package is missing", "--cluster kubernetes", "no dask-kubernetes",
            hint="pip install 'daskae[kubernetes]'",
        ) from error  # fmt: skip
    given = settings.kubernetes
    count = workers or given.workers
    options: dict[str, Any] = {"namespace": given.namespace, "port_forward_cluster_ip": given.port_forward}
    try:
        if not given.create:
            cluster = KubeCluster.from_name(given.name, shutdown_on_close=False, **options)
            return Started(cluster, workers or max(1, len(cluster.scheduler_info["workers"])))
        cluster = KubeCluster(custom_cluster_spec=cluster_spec(settings, count), quiet=True, **options)
    except Exception as error:
        # The client's errors are of many kinds and modules: no credentials, no operator, no rights, no answer.
        raise WorkersUnavailableError(
            "no Dask cluster on Kubernetes", f"{given.namespace}/{given.name}",
            f"{type(error).__name__}: {error}"[:300],
            "a Kubernetes API that answers, with the Dask operator", "kubectl get daskclusters shows what there is",
        ) from error  # fmt: skip
    return Started(cluster, count)


def cluster_spec(settings: ClusterSettings, workers: int) -> dict[str, Any]:
    """Return the DaskCluster resource for a run."""
    given = settings.kubernetes
    variables = {**dict.fromkeys(THREAD_VARIABLES, "1"), **ALLOCATOR_ENVIRONMENT, **given.env}
    env = [{"name": name, "value": value} for name, value in variables.items()]
    size = {"cpu": f"{given.cpu:g}", "memory": str(given.memory)}
    shared = {
        "image": given.image,
        "env": env,
        **({"volumeMounts": [{"name": _VOLUME, "mountPath": given.mount_path}]} if given.volume_claim else {}),
    }
    volumes = [{"name": _VOLUME, "persistentVolumeClaim": {"claimName": given.volume_claim}}]
    pod = {"volumes": volumes} if given.volume_claim else {}
    worker = {
        **shared,
        "name": "worker",
        "args": [
            "dask", "worker", "--name", "$(DASK_WORKER_NAME)", "--nthreads", "1",
            "--memory-limit", str(int(given.memory * JOB_SHARE)), "--dashboard-address", "8788",
        ],
        "ports": [{"name": "http-dashboard", "containerPort": 8788, "protocol": "TCP"}],
        "resources": {"requests": dict(size), "limits": dict(size)},
    }  # fmt: skip
    return {
        "apiVersion": "kubernetes.dask.org/v1",
        "kind": "DaskCluster",
        "metadata": {"name": given.name, "namespace": given.namespace},
        "spec": {
            "idleTimeout": 600,
            "worker": {"replicas": workers, "spec": {**pod, "containers": [worker]}},
            "scheduler": {"spec": {**pod, "containers": [_scheduler(shared)]}, "service": _service(given.name)},
        },
    }


def _scheduler(shared: dict[str, Any]) -> dict[str, Any]:
    ready = {"httpGet": {"path": "/health", "port": "http-dashboard"}}
    return {
        **shared,
        "name": "scheduler",
        "args": ["dask", "scheduler", "--host", "0.0.0.0"],
        "ports": [
            {"name": "tcp-comm", "containerPort": 8786, "protocol": "TCP"},
            {"name": "http-dashboard", "containerPort": 8787, "protocol": "TCP"},
        ],
        "readinessProbe": {**ready, "initialDelaySeconds": 5, "periodSeconds": 10},
        "livenessProbe": {**ready, "initialDelaySeconds": 15, "periodSeconds": 20},
        "resources": {"requests": {"cpu": "500m", "memory": "1Gi"}, "limits": {"memory": "2Gi"}},
    }


def _service(name: str) -> dict[str, Any]:
    return {
        "type": "ClusterIP",
        "selector": {"dask.org/cluster-name": name, "dask.org/component": "scheduler"},
        "ports": [
            {"name": "tcp-comm", "protocol": "TCP", "port": 8786, "targetPort": "tcp-comm"},
            {"name": "http-dashboard", "protocol": "TCP", "port": 8787, "targetPort": "http-dashboard"},
        ],
    }
