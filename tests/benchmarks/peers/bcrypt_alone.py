"""Hash different passwords on all cores, and do nothing else: a run cannot be faster.

python bcrypt_alone.py NUMBER COST
"""

import os
import sys
from threading import Thread

import bcrypt


def hash_all(numbers: range, cost: int) -> None:
    """Hash one password for each of the numbers."""
    for number in numbers:
        bcrypt.hashpw(b"%09d" % number, bcrypt.gensalt(cost))


def main() -> None:
    """Share the passwords out to as many threads as there are cores."""
    number, cost = (int(argument) for argument in sys.argv[1:])
    cores = os.cpu_count() or 1
    threads = [Thread(target=hash_all, args=(range(first, number, cores), cost)) for first in range(cores)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


if __name__ == "__main__":
    main()
