"""The pip way: run the package's own CMakeLists.txt, then lift its install tree into the wheel.

Here is only what CMake needs, and the version, which package.xml holds; all else is in pyproject.toml.
`colcon build` never reads this file (package.xml says build type ament_cmake). `pip install -e .` is refused: install,
then run from the checkout, whose modules win over the installed ones.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from setuptools import Distribution, setup
from setuptools.command.build_py import build_py

HERE = Path(__file__).resolve().parent
NAME = "proxqa_ros"
SITE = f"lib/python{sys.version_info.major}.{sys.version_info.minor}/site-packages"
VERSION = re.search(r"<version>([^<]+)</version>", (HERE / "package.xml").read_text()).group(1)


def ros_prefixes() -> list[str]:
    """Prefixes that hold ROS: those of a sourced distro, and where the ros-* wheels were unpacked."""
    found = [p for p in os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep) if p]
    for module in ("rosidl_cmake", "rosidl_adapter"):
        spec = importlib.util.find_spec(module)
        if spec and spec.origin:  # <prefix>/lib/pythonX.Y/site-packages/<module>/__init__.py
            prefix = Path(spec.origin).parents[4]
            if (prefix / "share" / "rosidl_cmake").is_dir() and str(prefix) not in found:
                found.append(str(prefix))
    return found


def check_compilers() -> None:
    """Stop with one line where there is no C or C++ compiler."""
    for variable, names in (("CC", ("cc", "gcc", "clang")), ("CXX", ("c++", "g++", "clang++"))):
        wanted = (os.environ[variable].split()[0],) if os.environ.get(variable, "").strip() else names
        if not any(shutil.which(name) for name in wanted):
            raise SystemExit(
                f"{NAME}: no {'C++' if variable == 'CXX' else 'C'} compiler ({', '.join(wanted)}) found; "
                "the messages need one to build: apt install gcc g++"
            )


class BuildWithInterfaces(build_py):
    """build_py that also builds the ROS interfaces and takes the files CMake would install."""

    def run(self) -> None:
        """Build the interfaces, then what build_py builds."""
        if getattr(self, "editable_mode", False):
            raise SystemExit(f'{NAME}: use "pip install ."; modules of the checkout win when run from its root')
        check_compilers()
        stage = self.build_stage()
        shutil.rmtree(self.build_lib, ignore_errors=True)  # else modules deleted since the last build would stay
        super().run()
        self.take(stage)

    def build_stage(self) -> Path:
        """Run CMake's configure, build and install; the tree it installed."""
        prefixes = ros_prefixes()
        if not prefixes:
            raise SystemExit(f"{NAME}: no ROS 2 build tools found; source a ROS 2 distro or let pip isolate the build")
        build = HERE / "build" / f"ros-{sys.implementation.cache_tag}"
        stage = build / "stage"
        shutil.rmtree(stage, ignore_errors=True)
        env = dict(os.environ, AMENT_PREFIX_PATH=os.pathsep.join(prefixes))
        env["PYTHONPATH"] = os.pathsep.join(p for p in sys.path if p)
        configure = [
            *("cmake", "-G", "Ninja", "-S", str(HERE), "-B", str(build)),
            f"-DCMAKE_INSTALL_PREFIX={stage}",
            f"-DCMAKE_PREFIX_PATH={';'.join(prefixes)}",
            f"-DPython3_EXECUTABLE={sys.executable}",
            f"-DPYTHON_INSTALL_DIR={SITE}",
            "-DCMAKE_BUILD_TYPE=Release",
            "-DBUILD_TESTING=OFF",
            f"-DCMAKE_PROJECT_INCLUDE={HERE / 'cmake' / 'pip_wheels.cmake'}",
        ]
        subprocess.check_call(configure, env=env)
        subprocess.check_call(["cmake", "--build", str(build), "--target", "install"], env=env)
        return stage

    def take(self, stage: Path) -> None:
        """Generated Python into the package; libraries, ament index, launch and config under the venv's prefix."""
        generated = stage / SITE / NAME
        for sub in ("msg", "srv", "action"):
            shutil.copytree(
                generated / sub,
                Path(self.build_lib) / NAME / sub,
                dirs_exist_ok=True,
                ignore=shutil.ignore_patterns("__pycache__", "*.c"),
            )
        for library in generated.glob("*.so"):
            self.copy_file(str(library), str(Path(self.build_lib) / NAME / library.name))
        files: dict[str, list[str]] = {}
        for top in ("lib", "share"):
            for path in (stage / top).rglob("*"):
                inside = path.relative_to(stage).as_posix()
                unwanted = SITE in inside or "/environment/" in inside or "/cmake/" in inside
                if path.is_file() and not unwanted and "setup." not in path.name:
                    files.setdefault(str(Path(inside).parent), []).append(os.path.relpath(path, HERE))
        self.distribution.data_files = sorted(files.items())


class BinaryDistribution(Distribution):
    """The wheel holds compiled libraries: it is of one platform and one Python."""

    def has_ext_modules(self) -> bool:
        """True: the libraries are built by CMake."""
        return True


setup(version=VERSION, distclass=BinaryDistribution, cmdclass={"build_py": BuildWithInterfaces})
