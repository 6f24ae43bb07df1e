"""python -m train_gpt: what is installed, and where."""

import importlib.metadata

from train_gpt import PACKAGE, complaint, find_torch

torch = find_torch()
print(f"train_gpt {importlib.metadata.version('train_gpt')}")
print(f"torch     {complaint(torch) or torch}")
print(f"programs  {PACKAGE / 'bin'}")
print(f"presets   {PACKAGE / 'configs'}")
for preset in sorted((PACKAGE / "configs").glob("*.env")):
    print(f"          --config configs/{preset.name}")
