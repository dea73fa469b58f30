"""Start a worker's decoders with a hostile program and print as JSON which of its attacks succeeded.

Arguments: the protection that this kernel shall lack, `landlock`, `seccomp` or `none`; the image, as JSON.
"""

import ctypes
import errno
import json
import socket
import sys
from pathlib import Path

from producer.doctor.isolation import check_isolation
from worker.core.errors import ImageDecodeError
from worker.core.process_hardening import PR_GET_SECCOMP, PR_SET_NO_NEW_PRIVS, libc
from worker.core.settings import parse_settings
from worker.imaging.recipe import Recipe
from worker.imaging.sandbox import seccomp
from worker.imaging.sandbox.isolation import drop_capabilities
from worker.imaging.sandbox.pool import DecoderPool

HOSTILE = (str(Path(__file__).with_name("hostile_decoder.py")),)
SAMPLE = Path(__file__).parents[5] / "producer/demo/samples/IDRiD_138.jpg"
RECIPE = Recipe(
    input_size_px=224, input_range=(-2.0, 127 / 64), crop="lit_box", enhancement="graham", cut_to_circle=True
)
ERRNO, PRCTL = 0x00050000, 157
LANDLOCK_CALLS = (444, 445, 446)


def lack(protection: str) -> None:
    """Make the kernel answer this process and its children as one without the protection does."""
    number, allow = (seccomp._LOAD, 0, 0, seccomp._NUMBER), (seccomp._RETURN, 0, 0, seccomp._ALLOW)
    if protection == "landlock":
        answer = (seccomp._RETURN, 0, 0, ERRNO | errno.ENOSYS)
        code = [number, *(part for call in LANDLOCK_CALLS for part in ((seccomp._EQUAL, 0, 1, call), answer)), allow]
    else:
        answer = (seccomp._RETURN, 0, 0, ERRNO | errno.EINVAL)
        argument = (seccomp._LOAD, 0, 0, seccomp._FIRST_ARGUMENT)
        is_asked = (seccomp._EQUAL, 0, 1, PR_GET_SECCOMP)
        code = [number, (seccomp._EQUAL, 0, 3, PRCTL), argument, is_asked, answer, allow]
    encoded = seccomp._encode(code)
    libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    program = seccomp._Program(len(encoded) // 8, encoded)
    assert libc.prctl(seccomp._PR_SET_SECCOMP, seccomp._MODE_FILTER, ctypes.byref(program), 0, 0) == 0


def main() -> None:
    if sys.argv[1] != "none":
        lack(sys.argv[1])
    settings = parse_settings(decode_processes=1, overlay_size_px=256)
    pool = DecoderPool(RECIPE, settings, program=HOSTILE)
    drop_capabilities()  # the worker of an ordinary user has none
    try:
        with socket.create_server(("127.0.0.1", 0)) as server:
            image = json.loads(sys.argv[2]) | {"port": server.getsockname()[1]}
            try:
                pool.submit(json.dumps(image).encode()).result(60)
            except ImageDecodeError as error:
                succeeded = json.loads(error.detail)
        is_prepared = pool.submit(SAMPLE.read_bytes()).result(60).canvas.shape == (256, 256, 3)
    finally:
        pool.close()
    doctor = [f"{check.status}: {check.detail}" for check in check_isolation(settings)]
    json.dump({"succeeded": succeeded, "prepared": is_prepared, "doctor": doctor}, sys.stdout)


main()
