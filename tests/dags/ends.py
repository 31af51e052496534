"""A process that ends with the status or, if negative, by the signal that it is told."""

import os
import sys

word = int(sys.argv[1])
if word < 0:
    os.kill(os.getpid(), -word)
print("a line for the log")
sys.exit(word)
