#!/bin/bash
# A run in a job script of your own; `otf submit` writes one like it.
#SBATCH --job-name=mysystem
#SBATCH --ntasks=16
#SBATCH --time=24:00:00
#SBATCH --signal=B:USR1@600
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=mysystem.log
set -e
module load openmpi

# In mysystem.yaml:  engine: {command: siesta, ranks: 16, …}

run=runs/mysystem
trap '' USR1    # a warning that comes before otf is up must not end the job
if [ -e $run/config.resolved.yaml ]; then
  exec otf resume $run --again requeue
else
  exec otf run mysystem.yaml --output $run --again requeue
fi
