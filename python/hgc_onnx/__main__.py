"""`python -m hgc_onnx`: the executable of this environment, with its ONNX Runtime."""

import subprocess
import sys

from ._errors import HgcError
from ._tool import environment, program


def main() -> int:
    """Runs hgc with the arguments of this process."""
    try:
        return subprocess.run([program(), *sys.argv[1:]], env=environment(), check=False).returncode
    except HgcError as error:
        print(f"hgc_onnx: {error}", file=sys.stderr)
        return 2


sys.exit(main())
