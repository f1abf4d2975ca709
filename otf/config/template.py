"""The example configuration that ``otf init`` writes."""

TEMPLATE = """\
# A run of otf. For a description of all keys: otf schema
system:
  molecule: CH4                  # or  structure: my.xyz   (any format of ASE)
  # bulk: {name: Si, cubic: true}
  # repeat: [2, 2, 2]
  charge: 0
  spin: 0                        # number of unpaired electrons

engine:
  kind: tblite                   # tblite (semi-empirical), pyscf (DFT), ase; see: otf doctor
  method: GFN2-xTB

dynamics:
  ensemble: nve                  # nve, csvr (stochastic velocity rescaling) or langevin
  steps: 4000
  timestep_fs: 0.5
  temperature_K: 300
  seed: 1

policy:
  force_target_meV_A: 20         # target for the mean absolute force error

output:
  every: 1                       # steps between frames of the trajectory
"""
