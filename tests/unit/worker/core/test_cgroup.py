"""Limits in the files of a cgroup, as the kernel and container engines lay them out."""

from pathlib import Path

import pytest

from worker.core.cgroup import read_cpu_quota, read_memory_limit


def process(folder: Path, cgroup: str, mount: str) -> Path:
    """Write /proc/self of a process; `{}` in a mount is the folder of the hierarchies."""
    proc = folder / "proc"
    proc.mkdir()
    (proc / "cgroup").write_text(f"{cgroup}\n")
    (proc / "mountinfo").write_text(f"31 23 0:28 {mount.format(folder)}\n")
    return proc


def write(folder: Path, **files: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name.replace("__", ".")).write_text(f"{content}\n")


def test_version_2_in_a_container(tmp_path: Path) -> None:
    write(tmp_path / "cg", cpu__max="150000 100000", memory__max="8589934592")
    proc = process(tmp_path, "0::/", "/ {}/cg ro,nosuid - cgroup2 cgroup rw,nsdelegate")
    assert (read_cpu_quota(proc), read_memory_limit(proc)) == (1.5, 8 * 2**30)


def test_version_2_applies_the_smallest_limit_of_all_parents(tmp_path: Path) -> None:
    write(tmp_path / "cg" / "pod" / "worker", cpu__max="800000 100000", memory__max="max")
    write(tmp_path / "cg" / "pod", cpu__max="400000 100000", memory__max="4096")
    write(tmp_path / "cg", cpu__stat="0")
    proc = process(tmp_path, "0::/pod/worker", "/ {}/cg rw - cgroup2 cgroup2 rw")
    assert (read_cpu_quota(proc), read_memory_limit(proc)) == (4.0, 4096)


def test_version_1_where_the_container_sees_the_path_of_the_host(tmp_path: Path) -> None:
    write(tmp_path / "cpu", cpu__cfs_quota_us="200000", cpu__cfs_period_us="100000")
    proc = process(tmp_path, "4:cpu,cpuacct:/docker/ab12", "/docker/ab12 {}/cpu ro - cgroup cgroup rw,cpu,cpuacct")
    assert read_cpu_quota(proc) == 2.0


@pytest.mark.parametrize("path", ["/docker/ab12", "/../../elsewhere"])
def test_path_outside_the_mount_means_the_mount_itself(tmp_path: Path, path: str) -> None:
    write(tmp_path / "cg", cpu__max="300000 100000")
    proc = process(tmp_path, f"0::{path}", "/other {}/cg ro - cgroup2 cgroup2 rw")
    assert read_cpu_quota(proc) == 3.0


def test_no_limit_is_none(tmp_path: Path) -> None:
    write(tmp_path / "cg", cpu__max="max 100000", memory__max="max")
    proc = process(tmp_path, "0::/", "/ {}/cg rw - cgroup2 cgroup2 rw")
    assert (read_cpu_quota(proc), read_memory_limit(proc)) == (None, None)


def test_no_limit_of_version_1_is_none(tmp_path: Path) -> None:
    write(tmp_path / "m", memory__limit_in_bytes="9223372036854771712", cpu__cfs_quota_us="-1", cpu__cfs_period_us="1")
    proc = process(tmp_path, "4:memory,cpu:/", "/ {}/m rw - cgroup cgroup rw,memory,cpu")
    assert (read_cpu_quota(proc), read_memory_limit(proc)) == (None, None)


def test_machine_without_cgroups_has_no_limit(tmp_path: Path) -> None:
    assert (read_cpu_quota(tmp_path), read_memory_limit(tmp_path)) == (None, None)
