// Estimates of a run's memory and artifact size, by formula, for --dry-run.
#pragma once

#include <cstdint>

#include "pgolf/config/run_config.h"
#include "pgolf/train/micro_batches.h"

namespace pgolf {

struct ArtifactEstimate {
  int64_t payload_bytes = 0;  ///< before compression
  int64_t bytes = 0;          ///< at the ratios of published artifacts
};
ArtifactEstimate estimate_artifact(const RunConfig& config);

struct RunEstimate {
  int64_t parameters = 0;
  int64_t weight_bytes = 0;      ///< parameters as stored
  int64_t optimizer_bytes = 0;   ///< gradients, Muon's and Adam's state, the weights' running mean
  int64_t activation_bytes = 0;  ///< kept for backward by all parallel micro-batches, roughly
  ArtifactEstimate artifact;
};

/// bfloat16: the compute dtype (else float32). plan: this process's.
RunEstimate estimate_run(const RunConfig& config, bool bfloat16, int world_size, const MicroBatchPlan& plan);

}  // namespace pgolf
