#!/usr/bin/env bash
# Resolve pyproject.toml into hashed lock files that name no registry. Needs uv: `pip install uv`, then `make lock`.
set -euo pipefail
cd "$(dirname "$0")/../.."

lock() {
    local out=deploy/locks/$1
    shift
    uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
        --no-header --no-annotate --no-emit-index-url "$@" -o "$out"
}

# OpenVINO works without the package that would report its use to its makers.
silent="openvino-telemetry; python_version < '3'"

lock producer.txt pyproject.toml --extra dicom-read --extra tracing --extra alarms
lock worker.txt pyproject.toml --extra worker --extra cpu --extra evaluate --extra embedded --extra dicom --extra tracing \
    --extra alarms --override <(echo "$silent")
lock jax.txt pyproject.toml --extra jax --extra cpu --extra evaluate --extra embedded --extra dicom --extra tracing \
    --extra alarms --override <(echo "$silent")
lock gpu.txt pyproject.toml --extra jax-cuda13 --extra evaluate --extra embedded --extra dicom --extra tracing --extra alarms
lock console.txt pyproject.toml --extra console --extra dicom-read --extra tracing --extra alarms
lock flower.txt pyproject.toml --extra flower --extra dicom-read --extra tracing --extra alarms
# tf-keras asks for `tensorflow`, whose files would overwrite those of `tensorflow-cpu`.
lock dev.txt pyproject.toml --extra worker --extra cpu --extra evaluate --extra embedded --extra flower --extra tracing \
    --extra alarms --extra console --extra dicom --extra jax --extra dev \
    --override <(echo "tensorflow>=2.21; sys_platform != 'linux' or platform_machine != 'x86_64'"; echo "$silent")
# What builds the project itself.
lock build.txt - <<<$'hatchling>=1.27\neditables>=0.5'
# What installs all of these.
lock uv.txt - <<<'uv>=0.13'
