"""Builds wheels: compiles `exporter/loops.pyx` where there is a C compiler.

Without one the package is the same and slower: `exporter/loops.py` does what the compiled module does.
`APIGATEWAY_EXPORTER_COMPILE=always` fails instead of doing without; `never` makes the wheel that fits every machine.
"""

import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

SOURCE = Path("exporter", "loops.pyx")
WISHES = ("always", "never", "auto")


class CompiledLoops(BuildHookInterface):
    """See the module."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile, and put the result into the wheel or, for an editable installation, beside its source."""
        wish = os.environ.get("APIGATEWAY_EXPORTER_COMPILE") or "auto"
        if wish not in WISHES:
            raise ValueError(f"APIGATEWAY_EXPORTER_COMPILE is one of {', '.join(WISHES)}, not {wish!r}")
        self._scratch = Path(tempfile.mkdtemp(prefix="apigateway-exporter-build-"))
        beside = Path(self.root, SOURCE).parent
        if version == "editable":
            for old in (*beside.glob("loops.*.so"), *beside.glob("loops.*.pyd")):
                old.unlink()  # of another Python, or of another state of the source
        if wish == "never":
            return
        try:
            compiled = self._compile()
        except BaseException as error:  # setuptools ends the process where the compiler fails
            if wish == "always" or isinstance(error, KeyboardInterrupt):
                raise
            self.app.display_warning(f"loops.pyx is not compiled, the exporter will be slower: {error}")
            return
        if version == "editable":
            shutil.copy2(compiled, beside / compiled.name)
            return
        build_data["pure_python"] = False
        build_data["infer_tag"] = True
        build_data["force_include"][str(compiled)] = f"exporter/{compiled.name}"

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """Remove what compiling left."""
        del version, build_data, artifact_path
        shutil.rmtree(self._scratch, ignore_errors=True)

    def _compile(self) -> Path:
        # Here, because who builds without a compiler needs neither.
        from Cython.Build import cythonize  # noqa: PLC0415
        from setuptools import Distribution, Extension  # noqa: PLC0415

        source = self._scratch / SOURCE
        source.parent.mkdir()
        shutil.copy2(Path(self.root, SOURCE), source)
        extension = Extension("exporter.loops", [str(source)], extra_compile_args=[] if os.name == "nt" else ["-O3"])
        modules = cythonize([extension], build_dir=str(self._scratch), quiet=True)
        command = Distribution({"name": "loops", "ext_modules": modules}).get_command_obj("build_ext")
        command.build_lib = command.build_temp = str(self._scratch / "built")
        command.ensure_finalized()
        command.run()
        (compiled,) = command.get_outputs()
        return Path(compiled)
