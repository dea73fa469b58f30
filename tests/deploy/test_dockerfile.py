import re
import subprocess
import sysconfig
from pathlib import Path

DEPLOY = Path(__file__).parents[2] / "deploy"
DOCKERFILE = (DEPLOY / "Dockerfile").read_text()
LOCKS = {path.stem: path.read_text() for path in (DEPLOY / "locks").glob("*.txt")}


def stage(name: str) -> str:
    """Return the instructions of one stage."""
    (found,) = re.findall(rf"(?ms)^FROM \S+ AS {name}\n(.*?)(?=^FROM |\Z)", DOCKERFILE)
    return found


def pins(lock: str) -> set[str]:
    """Return the packages of one lock, as name==version."""
    return set(re.findall(r"^\S+==\S+", LOCKS[lock], re.MULTILINE))


def names(pinned: set[str]) -> set[str]:
    return {pin.partition("==")[0] for pin in pinned}


def test_images_use_the_base_image_argument() -> None:
    sources = re.findall(r"^FROM (\S+) AS (\S+)$", DOCKERFILE, re.MULTILINE)
    names = {name for _, name in sources}
    assert {source for source, _ in sources} - names == {"${BASE_IMAGE}"}
    assert {"worker", "producer", "console", "flower"} <= names


def test_every_package_is_installed_from_a_lock_with_hashes() -> None:
    installs = re.findall(r"pip --python \S+ install (.+?)(?: \\)?$", DOCKERFILE, re.MULTILINE)
    assert len(installs) == 9
    for install in installs:
        from_lock = install.startswith("--no-deps --require-hashes -r deploy/locks/")
        assert from_lock or install == "--no-deps --no-index /wheels/*.whl"


def test_images_run_unprivileged_with_a_health_check() -> None:
    assert stage("runtime").rstrip().endswith("USER 10001:10001")
    for target in ("worker", "producer", "console", "flower"):
        assert "USER" not in stage(target)
        assert "HEALTHCHECK" in stage(target)
        assert re.findall(r"^(?:COPY|ADD|RUN) .*", stage(target), re.MULTILINE) == [
            f"COPY --from={target}-packages /opt/fundus /opt/fundus"
        ]


def test_console_has_the_producers_packages_and_its_own() -> None:
    def names(lock: str) -> set[str]:
        return set(re.findall(r"^([\w.-]+)==", LOCKS[lock], re.MULTILINE))

    assert names("producer") < names("console")
    assert names("console") - names("producer") >= {"argon2-cffi", "jinja2", "starlette", "uvicorn"}
    assert "tensorflow-cpu" not in names("console")


def test_flower_has_the_producers_packages_and_its_own() -> None:
    assert pins("producer") < pins("flower") <= pins("dev")
    assert "flower" in {pin.partition("==")[0] for pin in pins("flower") - pins("producer")}


def test_flower_without_a_password_listens_on_loopback_only() -> None:
    assert "ENV FLOWER_ADDRESS=127.0.0.1\n" in stage("flower")


def test_workers_of_other_locks_differ_only_in_their_engines() -> None:
    worker, jax, gpu = (pins(lock) for lock in ("worker", "jax", "gpu"))
    tensorflow = names(worker) - names(jax)
    assert {"tensorflow", "tensorflow-cpu"} <= tensorflow
    # A package of both has the same version.
    assert names(worker - jax) == tensorflow
    assert names(worker - gpu) == tensorflow | {"openvino"}
    assert names(gpu - jax) > {"jax-cuda13-plugin", "jax-cuda13-pjrt"}


def test_hadolint_finds_nothing() -> None:
    hadolint = Path(sysconfig.get_path("scripts")) / "hadolint"
    done = subprocess.run([hadolint, DEPLOY / "Dockerfile"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")
