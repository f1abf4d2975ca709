// pair_style otf: a model of otf in LAMMPS, as a plugin.
//
// otf_model.h, written for one model, has the sizes and the innermost loops; model.otf has the
// coefficients. The formulas and their sources are in otf/kernels/descriptor.py and energy.py.
//
//   plugin load ./otfplugin.so
//   pair_style  otf
//   pair_coeff  * * model.otf Si O     # the element of each atom type
//
// Forces on atoms of the halo are returned to their owners, so "newton on" is needed, and the halo
// is one cutoff wide.

#include "atom.h"
#include "error.h"
#include "force.h"
#include "lammps.h"
#include "memory.h"
#include "neigh_list.h"
#include "neighbor.h"
#include "pair.h"
#include "update.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <fstream>
#include <map>
#include <string>
#include <vector>

static inline double otf_sqrt(double x) { return std::sqrt(x); }

// exp(y) - 1 for |y| up to 20, as otf.kernels.radial.expm1: arithmetic that vectorises.
static inline double otf_expm1(double y)
{
  const double t = y / 64.0;
  double total = 1.0;
  for (int k = 12; k > 1; --k) total = 1.0 + total * t / k;
  total *= t;
  for (int k = 0; k < 6; ++k) total *= 2.0 + total;
  return total;
}

#include "otf_model.h"

using namespace LAMMPS_NS;

namespace {

// Numbers of a text file in the order in which they are asked for.
class Reader {
 public:
  Reader(const std::string &name, Error *error) : name(name), stream(name), error(error)
  {
    if (!stream) error->all(FLERR, "{}: cannot be read", name);
  }
  template <class T> T one()
  {
    T value;
    if (!(stream >> value)) error->all(FLERR, "{}: ends too early, or is not a model", name);
    return value;
  }
  std::vector<double> many(size_t count)
  {
    std::vector<double> values(count);
    for (auto &value : values) value = one<double>();
    return values;
  }
  std::vector<long> indices(size_t count)
  {
    std::vector<long> values(count);
    for (auto &value : values) value = one<long>();
    return values;
  }

 private:
  std::string name;
  std::ifstream stream;
  Error *error;
};

// The coefficients; members as in otf.kernels.energy.Tensors and otf.kernels.descriptor.Basis.
struct Model {
  double reference, r_min, cutoff_two, cutoff_three, decay;
  std::vector<std::string> elements;
  long entries, groups, components, pairs, terms;
  std::vector<long> mixing_first, mixing_channel, pair, pair_first, third;
  std::vector<double> mixing_weight, constant, linear, projection, offset, quadratic, four;
  // Environments: the longest bond (0 for none), radii of the elements, and the group of an atom by
  // its element and the number of atoms of each element that are bonded to it.
  double longest, bond_switch;
  std::vector<double> radius;
  std::map<std::vector<long>, long> environment;

  void read(const std::string &name, Error *error)
  {
    Reader in(name, error);
    if (in.one<std::string>() != OTF_SIZES)
      error->all(FLERR, "{}: the plugin was compiled for another model", name);
    reference = in.one<double>();
    r_min = in.one<double>();
    cutoff_two = in.one<double>();
    cutoff_three = in.one<double>();
    decay = in.one<double>();
    for (int s = 0; s < N_SPECIES; ++s) elements.push_back(in.one<std::string>());
    entries = in.one<long>();
    mixing_first = in.indices(N_SPECIES + 1);
    mixing_channel = in.indices(entries);
    mixing_weight = in.many(entries);
    groups = in.one<long>();
    components = in.one<long>();
    pairs = in.one<long>();
    terms = in.one<long>();
    constant = in.many(groups);
    linear = in.many(groups * N_LOW);
    projection = in.many(groups * components * N_LOW);
    offset = in.many(groups * components);
    quadratic = in.many(groups * components * components);
    pair = in.indices(2 * pairs);
    pair_first = in.indices(pairs + 1);
    third = in.indices(terms);
    four = in.many(groups * terms);
    longest = in.one<double>();
    bond_switch = in.one<double>();
    radius = in.many(N_SPECIES);
    for (long n = in.one<long>(); n > 0; --n) {
      const std::vector<long> key = in.indices(1 + N_SPECIES);
      environment[key] = in.one<long>();
    }
  }
};

constexpr long LANES = 4;
inline long whole(long count) { return (count + LANES - 1) / LANES * LANES; }

}    // namespace

class PairOTF : public Pair {
 public:
  PairOTF(LAMMPS *lmp) : Pair(lmp), low(N_LOW), gradient(N_LOW), moments(N_MOMENTS), adjoint(N_MOMENTS)
  {
    single_enable = restartinfo = 0;
    one_coeff = manybody_flag = 1;
    centroidstressflag = CENTROID_NOTAVAIL;
    page.resize(N_SPECIES * PAGE);
  }
  ~PairOTF() override
  {
    if (allocated) {
      memory->destroy(setflag);
      memory->destroy(cutsq);
    }
  }
  void settings(int narg, char **) override
  {
    if (narg) error->all(FLERR, "pair_style otf takes no arguments");
  }
  void coeff(int narg, char **arg) override;
  void init_style() override
  {
    if (strcmp(update->unit_style, "metal") != 0) error->all(FLERR, "pair_style otf needs: units metal");
    if (!force->newton_pair) error->all(FLERR, "pair_style otf needs: newton on");
    neighbor->add_request(this, NeighConst::REQ_FULL);
  }
  double init_one(int, int) override { return std::max(model.cutoff_two, model.cutoff_three); }
  void compute(int eflag, int vflag) override;

 private:
  struct Near {
    int atom;
    double bond;    // derivative of the weight of the bonds by the distance, over the weight
  };
  Model model;
  std::vector<int> species;
  std::vector<double> page, low, gradient, moments, adjoint, kept_gradient, kept_adjoint, z, bz;
  std::vector<Near> near[N_SPECIES];
  long within[N_SPECIES];

  void fill_pages(int i, int *list, int count);
  void features(const long *triples);
  double group_energy(long group);
  double atom_energy(int i, double *by_weight);
  double bonds(int i, std::vector<long> *key);
};

void PairOTF::coeff(int narg, char **arg)
{
  const int types = atom->ntypes;
  if (!allocated) {
    memory->create(setflag, types + 1, types + 1, "pair:setflag");
    memory->create(cutsq, types + 1, types + 1, "pair:cutsq");
    allocated = 1;
  }
  if (narg != 3 + types)
    error->all(FLERR, "pair_coeff * * model.otf needs the element of each of the {} types", types);
  model = Model();
  model.read(arg[2], error);
  z.resize(model.components);
  bz.resize(model.components);
  species.assign(types + 1, -1);
  for (int t = 1; t <= types; ++t) {
    const auto found = std::find(model.elements.begin(), model.elements.end(), arg[2 + t]);
    if (found == model.elements.end())
      error->all(FLERR, "{}: has not learned {}", arg[2], arg[2 + t]);
    species[t] = found - model.elements.begin();
    for (int u = 1; u <= types; ++u) setflag[t][u] = 1;
  }
}

// Vectors to the neighbours, those within the cutoff of triples first.
void PairOTF::fill_pages(int i, int *list, int count)
{
  const double near2 = model.cutoff_three * model.cutoff_three;
  const double far = std::max(model.cutoff_two, model.cutoff_three);
  double **x = atom->x;
  for (int s = 0; s < N_SPECIES; ++s) {
    near[s].clear();
    within[s] = 0;
  }
  for (int beyond = 0; beyond < 2; ++beyond) {
    for (int n = 0; n < count; ++n) {
      const int j = list[n] & NEIGHMASK;
      const double dx = x[j][0] - x[i][0], dy = x[j][1] - x[i][1], dz = x[j][2] - x[i][2];
      const double square = dx * dx + dy * dy + dz * dz;
      if (square >= far * far || (square >= near2) != beyond) continue;
      const int s = species[atom->type[j]];
      const size_t column = near[s].size();
      if (column + LANES > WIDTH)
        error->one(FLERR, "an atom has more than {} neighbours of an element", WIDTH - LANES);
      double *of = &page[s * PAGE];
      of[X * WIDTH + column] = dx;
      of[Y * WIDTH + column] = dy;
      of[Z * WIDTH + column] = dz;
      near[s].push_back({j, 0.0});
      if (!beyond) ++within[s];
    }
    if (far * far <= near2) break;
  }
  for (int s = 0; s < N_SPECIES; ++s) {
    double *of = &page[s * PAGE];
    for (long column = near[s].size(); column < whole(near[s].size()); ++column) {
      of[X * WIDTH + column] = of[Y * WIDTH + column] = 0.0;
      of[Z * WIDTH + column] = 2.0 * far;    // beyond every cutoff
    }
  }
}

void PairOTF::features(const long *triples)
{
  double own[N_THREE * N_LM];
  std::fill(moments.begin(), moments.end(), 0.0);
  for (int s = 0; s < N_SPECIES; ++s) {
    double *of = &page[s * PAGE];
    pair_features(whole(near[s].size()), of, model.r_min, model.cutoff_two, model.decay, low.data(),
                  s * N_TWO);
    if (!triples[s]) continue;
    page_moments(whole(triples[s]), of, model.r_min, model.cutoff_three, model.decay, own);
    for (long e = model.mixing_first[s]; e < model.mixing_first[s + 1]; ++e) {
      double *target = &moments[model.mixing_channel[e] * N_THREE * N_LM];
      for (int k = 0; k < N_THREE * N_LM; ++k) target[k] += model.mixing_weight[e] * own[k];
    }
  }
  spectrum(N_MOMENTS / N_LM, moments.data(), low.data(), N_SPECIES * N_TWO);
}

// The energy with the coefficients of a group, and its derivatives by features and moments.
double PairOTF::group_energy(long group)
{
  const long components = model.components;
  const double *linear = &model.linear[group * N_LOW];
  double energy = model.constant[group];
  for (int f = 0; f < N_LOW; ++f) energy += linear[f] * low[f];
  for (int f = 0; f < N_LOW; ++f) gradient[f] = linear[f];
  for (long p = 0; p < components; ++p) {
    const double *row = &model.projection[(group * components + p) * N_LOW];
    double total = -model.offset[group * components + p];
    for (int f = 0; f < N_LOW; ++f) total += row[f] * low[f];
    z[p] = total;
  }
  for (long p = 0; p < components; ++p) {
    const double *row = &model.quadratic[(group * components + p) * components];
    double total = 0.0;
    for (long q = 0; q < components; ++q) total += row[q] * z[q];
    bz[p] = total;
    energy += z[p] * total;
  }
  for (long p = 0; p < components; ++p) {
    const double *row = &model.projection[(group * components + p) * N_LOW];
    for (int f = 0; f < N_LOW; ++f) gradient[f] += 2.0 * bz[p] * row[f];
  }
  spectrum_adjoint(N_MOMENTS / N_LM, moments.data(), gradient.data(), N_SPECIES * N_TWO,
                   adjoint.data());
  const double *weight = model.four.data() + group * model.terms;
  for (long p = 0; p < model.pairs; ++p) {
    const long i = model.pair[2 * p], j = model.pair[2 * p + 1];
    const double product = moments[i] * moments[j];
    double total = 0.0;
    for (long t = model.pair_first[p]; t < model.pair_first[p + 1]; ++t) {
      total += weight[t] * moments[model.third[t]];
      adjoint[model.third[t]] += weight[t] * product;
    }
    energy += product * total;
    adjoint[i] += moments[j] * total;
    adjoint[j] += moments[i] * total;
  }
  return energy;
}

// The weight of the bonds of an atom, as in otf/kernels/bonds.py, and its environment.
double PairOTF::bonds(int i, std::vector<long> *key)
{
  const int mine = species[atom->type[i]];
  key->assign(1 + N_SPECIES, 0);
  (*key)[0] = mine;
  double weight = 1.0;
  for (int s = 0; s < N_SPECIES; ++s) {
    const double limit = std::min(model.radius[mine] + model.radius[s], model.longest);
    for (size_t n = 0; n < near[s].size(); ++n) {
      const double r = page[s * PAGE + DISTANCE * WIDTH + n];
      if (r < limit) ++(*key)[1 + s];
      const double stretch = (r / limit - 1.0) / model.bond_switch, u = std::fabs(stretch);
      near[s][n].bond = 0.0;
      if (u >= 1.0) continue;
      const double value = u * u * u * (10.0 + u * (6.0 * u - 15.0));
      const double slope = 30.0 * u * u * (1.0 - u) * (1.0 - u) / (model.bond_switch * limit);
      if (value > 0.0) near[s][n].bond = (stretch > 0.0 ? slope : -slope) / value;
      weight *= value;
    }
  }
  return weight;
}

// The energy between that of the environment and that of the element, and its derivative by the
// logarithm of the weight.
double PairOTF::atom_energy(int i, double *by_weight)
{
  *by_weight = 0.0;
  const long mine = species[atom->type[i]];
  if (model.environment.empty()) return group_energy(mine);
  std::vector<long> key;
  const double weight = bonds(i, &key);
  const auto found = model.environment.find(key);
  if (found == model.environment.end()) return group_energy(mine);
  const double energy = group_energy(found->second);
  if (weight >= 1.0) return energy;
  kept_gradient = gradient;
  kept_adjoint = adjoint;
  const double plain = group_energy(mine);
  for (size_t k = 0; k < gradient.size(); ++k)
    gradient[k] = weight * kept_gradient[k] + (1.0 - weight) * gradient[k];
  for (size_t k = 0; k < adjoint.size(); ++k)
    adjoint[k] = weight * kept_adjoint[k] + (1.0 - weight) * adjoint[k];
  *by_weight = weight * (energy - plain);
  return weight * energy + (1.0 - weight) * plain;
}

void PairOTF::compute(int eflag, int vflag)
{
  ev_init(eflag, vflag);
  if (vflag_atom) error->all(FLERR, "pair_style otf has no virial of single atoms");
  double **f = atom->f;
  double own[N_THREE * N_LM];
  for (int ii = 0; ii < list->inum; ++ii) {
    const int i = list->ilist[ii];
    fill_pages(i, list->firstneigh[i], list->numneigh[i]);
    features(within);
    double by_weight;
    const double energy = atom_energy(i, &by_weight) + model.reference;
    if (eflag_global) eng_vdwl += energy;
    if (eflag_atom) eatom[i] += energy;
    for (int s = 0; s < N_SPECIES; ++s) {
      double *of = &page[s * PAGE];
      std::fill(own, own + N_THREE * N_LM, 0.0);
      for (long e = model.mixing_first[s]; e < model.mixing_first[s + 1]; ++e) {
        const double *source = &adjoint[model.mixing_channel[e] * N_THREE * N_LM];
        for (int k = 0; k < N_THREE * N_LM; ++k) own[k] += model.mixing_weight[e] * source[k];
      }
      pair_gradients(whole(near[s].size()), whole(within[s]), of, gradient.data(), s * N_TWO, own);
      for (size_t n = 0; n < near[s].size(); ++n) {
        const double along = by_weight * near[s][n].bond;
        const int j = near[s][n].atom;
        for (int c = 0; c < 3; ++c) {
          const double slope = of[(FX + c) * WIDTH + n] + along * of[(X + c) * WIDTH + n];
          f[i][c] += slope;
          f[j][c] -= slope;
        }
      }
    }
  }
  if (vflag_fdotr) virial_fdotr_compute();
}

// What LAMMPS calls when it loads a plugin (LAMMPS manual, "Writing plugins").
extern "C" {
typedef struct {
  const char *version, *style, *name, *info, *author;
  union {
    void *(*v1)(void *);
    void *(*v2)(void *, int, char **);
  } creator;
  void *handle;
} lammpsplugin_t;
typedef void (*lammpsplugin_regfunc)(lammpsplugin_t *, void *);

static void *make_pair(void *lmp) { return new PairOTF(static_cast<LAMMPS *>(lmp)); }

void lammpsplugin_init(void *lmp, void *handle, void *regfunc)
{
  lammpsplugin_t plugin;
  plugin.version = static_cast<LAMMPS *>(lmp)->version;
  plugin.style = "pair";
  plugin.name = "otf";
  plugin.info = "force model of otf";
  plugin.author = "otf";
  plugin.creator.v1 = &make_pair;
  plugin.handle = handle;
  reinterpret_cast<lammpsplugin_regfunc>(regfunc)(&plugin, lmp);
}
}
