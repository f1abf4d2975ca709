#!/bin/bash
# The same run with several seeds:  sbatch --array=1-8 array.sh
#SBATCH --job-name=mysystem
#SBATCH --ntasks=16
#SBATCH --time=24:00:00
#SBATCH --signal=B:USR1@600
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=mysystem_%a.log
set -e
module load openmpi

run=runs/mysystem_$SLURM_ARRAY_TASK_ID
trap '' USR1
if [ -e $run/config.resolved.yaml ]; then
  exec otf resume $run --again requeue
else
  exec otf run mysystem.yaml --output $run --seed $SLURM_ARRAY_TASK_ID --again requeue
fi

# Afterwards, all runs together:  otf analyse rdf runs/mysystem_*
