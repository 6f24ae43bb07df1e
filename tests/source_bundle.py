#!/usr/bin/env python3
"""Checks that the source bundle of train_gpt has every file that its sources and CMake files include, and no other program.

    tests/source_bundle.py --bundle build/source_bundle.tar.xz
"""

import argparse
import posixpath
import re
import tarfile


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", required=True)
    with tarfile.open(parser.parse_args().bundle, "r:xz") as archive:
        texts = {member.name: archive.extractfile(member).read().decode() for member in archive.getmembers()}
    missing = []
    for name, text in texts.items():
        for include in re.findall(r'^\s*#\s*include "([^"]+)"', text, re.M):
            places = [posixpath.join("include", include),
                      posixpath.normpath(posixpath.join(posixpath.dirname(name), include))]
            if not any(place in texts for place in places):
                missing.append(f"{name} includes {include}")
        for module in re.findall(r"^\s*include\((?!GoogleTest|CheckLanguage)(\w+)\)", text, re.M) if name.endswith("CMakeLists.txt") else []:
            if f"cmake/{module}.cmake" not in texts:
                missing.append(f"{name} includes {module}")
    assert not missing, "not in the bundle: " + "; ".join(missing)
    programs = [name for name in texts if name.startswith("src/apps/")]
    assert programs == ["src/apps/train_gpt.cpp"], programs
    for needed in ("CMakeLists.txt", "src/CMakeLists.txt", "src/train/trainer.cpp", "cmake/FindLibTorch.cmake"):
        assert needed in texts, needed
    print(f"ok: {len(texts)} files")


if __name__ == "__main__":
    main()
