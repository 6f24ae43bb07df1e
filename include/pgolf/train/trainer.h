// The training loop: from a RunConfig to a run folder with checkpoints, metrics and a trained model.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "pgolf/base/error.h"
#include "pgolf/config/model_metadata.h"
#include "pgolf/config/options.h"
#include "pgolf/dist/group.h"
#include "pgolf/model_io/checkpoint.h"
#include "pgolf/optim/ema.h"
#include "pgolf/optim/optimizers.h"
#include "pgolf/run/final_files.h"
#include "pgolf/run/record_file.h"
#include "pgolf/run/run_folder.h"
#include "pgolf/train/micro_batches.h"
#include "pgolf/train/runtime.h"
#include "pgolf/validation/bpb.h"

namespace pgolf {

class GradientAverage;
class Replicas;
class RunLog;
class StepGraph;
struct RunRecord;

/// Error(usage) naming option and both values unless every Resume::must_match option equals the checkpoint's.
void require_same_settings(const Checkpoint& checkpoint, const std::vector<ResolvedOption>& resolved);

/// One finished optimizer step.
struct StepRecord {
  int64_t step = 0;  ///< steps done, from 1
  double train_loss = 0;
  std::vector<double> micro_losses;  ///< one per micro-batch
  double lr_scale = 0;
  double muon_momentum = 0;
  double grad_norm = 0;  ///< 2-norm over all gradients, before clipping
};

/// One run. Construct, optionally restore(), then train() and export_model() (train/export.h).
class Trainer {
 public:
  /// Opens the data, seeds the generator, initializes the model. resolved: the options to store.
  Trainer(const RunConfig& config, std::vector<ResolvedOption> resolved, const Runtime& runtime, Group& group);
  ~Trainer();

  /// Resumes from a checkpoint with the same settings.
  void restore(const Checkpoint& checkpoint);

  /// Trains until iterations or the wall-clock cap; logs, validates and saves as configured. With EMA_DECAY the model is then the
  /// running mean of its weights, and validated once more.
  /// ExitCode::interrupted after a stop signal (state is saved). Throws Error(non_finite) naming step and tensor
  /// before any weight is touched.
  ExitCode train(const RunFolder& folder);

  Group& group() { return group_; }
  Gpt& model() { return model_; }
  const RunConfig& config() const { return config_; }
  const Runtime& runtime() const { return runtime_; }
  const ModelMetadata& metadata() const { return metadata_; }
  const ValidationSet& validation() const { return validation_; }
  const ByteCounts& byte_counts() const { return byte_counts_; }
  /// metrics.jsonl of the run in this folder, from the last step on.
  RecordFile& records(const RunFolder& folder);
  /// On all ranks: each scores its share. Nothing if a stop signal ended it early on any.
  std::optional<EvalResult> validate();
  /// On all ranks: the sum of all shares. Nothing if one of them was stopped early.
  std::optional<EvalResult> sum_shares(const EvalSums& share, bool stopped);
  /// On all ranks: the model becomes rank 0's.
  void share_weights();

  /// Called after every step; for tests and benchmarks.
  std::function<void(const StepRecord&)> on_step;

  /// Logs upstream's lines before training, then ours. Needs no folder.
  void log_setup() const;

  /// Forward and backward of all micro-steps of one optimizer step; leaves the gradients in place.
  StepRecord forward_backward();
  /// Checks, clips and applies the gradients of step `done + 1`; elapsed_ms feeds the schedule.
  void apply_gradients(StepRecord* record, double elapsed_ms);
  /// An uncounted, unchecked step with base learning rates and momentum, for warmup and timing.
  void warmup_step();
  /// Over looped blocks, from the next step on; a new trainer begins with none.
  void set_extra_passes(int passes);

 private:
  StepRecord step(double elapsed_ms);
  /// Switches loops on, and rotation off, when their time has come.
  void advance_phases(double elapsed_ms, const RunLog& log);
  void drop_rotation();
  /// Drops the rotation if the state's model has none.
  void follow_rotation();
  /// Updates the best validation loss and logs the result.
  void record_validation(const EvalResult& result, RunLog& log);
  /// Whether text or histograms are due after this step.
  bool shows_model(int64_t step) const;
  void show_model(int64_t step, RunLog& log);
  /// The end of training with EMA_DECAY.
  void average_weights(RunLog& log);
  RunRecord run_record(const RunFolder& folder) const;
  void accumulate_gradients();
  void measure_gradients();
  void clear_gradients();
  void update_weights(double lr_scale, double muon_momentum);
  void warm_up(int steps);
  void forget_graphs();
  /// Error(non_finite) if the loss or a gradient is not finite.
  void require_finite(const StepRecord& record) const;
  /// What all ranks decide by: the longest time, and any rank's stop signal.
  struct Agreed {
    double elapsed_ms;
    int signal;
  };
  Agreed agree(double elapsed_ms);
  /// Gives all ranks rank 0's weights, optimizer state and place in the stream.
  void share_state();
  /// This rank's, filled up with those of all others, in the order of the stream.
  std::vector<float> losses_of_all_ranks(const at::Tensor& losses);
  void check_ranks();
  /// Error(usage) unless the checkpoint's processes have taken as many shuffled windows each as this job's.
  void require_same_windows(const Checkpoint& checkpoint) const;
  void save(const std::filesystem::path& checkpoints);
  /// A failure is a warning: training goes on, and the next one may succeed.
  void save_if_possible(const RunFolder& folder);
  /// Before the process ends. Returns where the checkpoint is.
  std::filesystem::path save_at_last(const RunFolder& folder, FinalFiles& files);
  StateDict training_tensors() const;
  /// Where the state says; with ALLOW_OTHER_DATA at the start if there is no such place.
  void seek_data();

  RunConfig config_;
  std::vector<ResolvedOption> resolved_;
  Runtime runtime_;
  Group& group_;
  Tokenizer tokenizer_;
  ModelMetadata metadata_;
  ByteCounts byte_counts_;
  ValidationSet validation_;
  Gpt model_;
  Optimizers optimizers_;
  WeightAverage average_;
  MicroBatches micro_batches_;
  std::unique_ptr<Replicas> replicas_;
  std::unique_ptr<GradientAverage> gradient_average_;
  at::Tensor report_;  ///< a step's results for the host, float32 on the device: losses, then norms
  at::Tensor losses_;  ///< per micro-batch: the front of report_
  at::Tensor norms_;   ///< of the parameters with gradients: the rest of report_
  std::unique_ptr<StepGraph> gradient_graph_, update_graph_;
  TrainingState state_;
  bool restored_ = false;
  std::optional<RecordFile> records_;
};

}  // namespace pgolf
