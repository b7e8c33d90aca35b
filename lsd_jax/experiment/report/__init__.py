import os
import sys

if "matplotlib" not in sys.modules:
    # Figures are files of no backend. A notebook's may not be installed here, and matplotlib would refuse it when it is imported.
    os.environ.pop("MPLBACKEND", None)
