// Runs -> arms: the results of a sweep.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "pgolf/study/arm.h"
#include "pgolf/study/run_result.h"
#include "pgolf/study/spikes.h"
#include "pgolf/study/statistics.h"

namespace pgolf {

/// Number of validations in the means over the last ones.
inline constexpr int kLastValidations = 3;

/// Values derived from one run.
struct RunFacts {
  std::optional<double> final_train_loss, final_val_loss, final_val_bpb;  ///< of the last step
  std::optional<double> last_k_val_loss,
      last_k_val_bpb;  ///< means over the last kLastValidations, without that of the untrained model
  std::optional<double> max_grad_norm;
  std::optional<double> step_ms_median, step_ms_p10, step_ms_p90;  ///< after the warm-up
  int64_t steps = 0, tokens = 0, timed_steps = 0;
  SpikeReport spikes;
};

RunFacts facts_of(const RunResult& run);

struct SummaryRun {
  RunResult result;
  RunFacts facts;
  size_t arm = 0;
  bool repeat = false;  ///< an earlier run has the same settings and seed; left out of the statistics
};

struct Arm {
  /// How it differs from the others, rotation first, without settings that are train_gpt's defaults: "16",
  /// "full*3,none high QK_NORM=0".
  std::string label;
  std::string rotation;  ///< the rotation's part of the label
  std::string family;    ///< the rest of it; empty if the arms differ in rotation only
  ArmSettings settings;
  double mean_rope_dims = 0;  ///< rotated dims, mean over layers
  int head_dim = 0;
  bool full = false;
  bool plain = false;           ///< one ROPE_DIMS in all layers, prefix, half-split: on the line of a plot
  std::vector<size_t> runs;     ///< all, by seed
  std::vector<size_t> counted;  ///< finished, one per seed
  int diverged = 0, unfinished = 0;
  /// Others are compared with it: it has full rotation, and another arm has its other settings.
  bool is_baseline = false;
  std::optional<size_t> baseline;                    ///< of those the one whose other settings are nearest; not for itself
  int settings_from_baseline = 0;                    ///< how many of the other settings differ between the two
  PairedDifference loss_difference, bpb_difference;  ///< to the baseline, over the seeds that both have
  Verdict verdict = Verdict::not_decided;            ///< on the validation loss of these seeds
};

struct Summary {
  std::vector<SummaryRun> runs;  ///< by arm, then seed, then name
  std::vector<Arm> arms;         ///< by family, then rotated dims
  /// The settings that differ between arms, without the rotation.
  std::vector<std::string> differing;

  /// Values of a fact over an arm's counted runs that have it, by seed.
  std::vector<double> values(const Arm& arm, std::optional<double> RunFacts::*fact) const;
};

Summary summarize(std::vector<RunResult> results);

}  // namespace pgolf
