"""The stand-in for OpenMX under a real MPI: checks the number of ranks; the first one computes.

mpirun -n N python mpi_openmx.py N MODE NAME.dat -nt T
"""

import os
import sys

import fake_openmx


def main() -> None:
    from mpi4py import MPI

    world = MPI.COMM_WORLD
    if world.size != int(sys.argv.pop(1)):
        print(f"{world.size} ranks", file=sys.stderr)
        sys.exit(3)
    threads = world.gather(os.environ.get("OMP_NUM_THREADS"))
    if world.rank == 0:
        print("threads of the ranks:", *threads)
        fake_openmx.main()
    world.Barrier()


if __name__ == "__main__":
    main()
