#include "pgolf/train/export.h"

#include <torch/types.h>

#include <algorithm>
#include <cmath>
#include <optional>

#include "pgolf/base/format.h"
#include "pgolf/base/log.h"
#include "pgolf/base/stopwatch.h"
#include "pgolf/model_io/model_file.h"
#include "pgolf/model_io/model_writer.h"
#include "pgolf/run/record_file.h"
#include "pgolf/train/pack.h"
#include "score_overlapping.h"

namespace pgolf {
namespace {

int64_t executable_bytes() {
  std::error_code error;
  const auto size = std::filesystem::file_size("/proc/self/exe", error);
  return error ? 0 : static_cast<int64_t>(size);
}

void interrupted_scoring(const std::filesystem::path& artifact) {
  log::warn(format("signal %d: scoring ended early. All files were written; eval_gpt score %s completes it", stop_signal(),
                   artifact.c_str()));
}

void log_budget(int64_t artifact_bytes, int64_t code_bytes, int64_t budget) {
  const int64_t total = artifact_bytes + code_bytes;
  log::info(format(
      "budget: model:%lld code:%lld total:%lld of:%lld margin:%lld (code is the xz source bundle; the executable has %lld bytes)",
      static_cast<long long>(artifact_bytes), static_cast<long long>(code_bytes), static_cast<long long>(total),
      static_cast<long long>(budget), static_cast<long long>(budget - total), static_cast<long long>(executable_bytes())));
}

/// What the files' size and the artifact's loss say about the run, warnings included.
ExitCode judge(int64_t artifact_bytes, int64_t code_bytes, int64_t budget, double val_loss) {
  ExitCode code = ExitCode::ok;
  const int64_t total = artifact_bytes + code_bytes;
  if (total > budget) {
    code = ExitCode::over_budget;
    log::warn(format(
        "over budget by %lld bytes: model %lld plus code %lld exceeds BUDGET_BYTES=%lld. Both files were kept. To shrink the "
        "model, reduce NUM_LAYERS, MODEL_DIM, MLP_MULT, VOCAB_SIZE or NUM_KV_HEADS.",
        static_cast<long long>(total - budget), static_cast<long long>(artifact_bytes), static_cast<long long>(code_bytes),
        static_cast<long long>(budget)));
  }
  if (!std::isfinite(val_loss)) {
    code = ExitCode::non_finite;
    log::warn(format("the artifact's val_loss is %s. All files were kept. Restart with lower learning rates.",
                     python_float(val_loss).c_str()));
  }
  return code;
}

}  // namespace

ExitCode export_model(Trainer& trainer, const RunFolder& folder, int64_t code_bytes) {
  Group& group = trainer.group();
  const OutputConfig& output = trainer.config().output;
  const ArtifactFormat& made = output.artifact;
  const bool gptq = made.quantizer == Quantizer::gptq;
  // The others wait at most for one part of the work at a time.
  const auto more_to_do = [&](bool more) { return gptq && group.sum({more ? 1.0 : 0.0})[0] > 0; };
  if (!group.is_master()) {
    while (more_to_do(false)) {
    }
    trainer.model()->set_extra_passes(trainer.config().model.num_loops);
    trainer.share_weights();
    if (!trainer.validate()) return ExitCode::interrupted;
    score_overlapping(trainer, nullptr);
    return static_cast<ExitCode>(static_cast<int>(group.sum({0})[0]));
  }
  const StateDict state = state_dict(trainer.model());
  FinalFiles files(folder, output.fallback_dir);
  RecordFile& records = trainer.records(folder);

  const Bytes model_file = torch_model(state, trainer.config().model, trainer.metadata(), folder.model());
  files.try_save(folder.model(), model_file);
  const auto model_bytes = static_cast<long long>(model_file.size());
  log::info(format("Serialized model: %lld bytes", model_bytes));
  log::info(format("Code size: %lld bytes", static_cast<long long>(code_bytes)));
  log::info(format("Total submission size: %lld bytes", model_bytes + static_cast<long long>(code_bytes)));

  const std::string form = format_text(made.file());
  const PackedModel packed = pack_model(trainer.model(), trainer.metadata(), trainer.config(), trainer.runtime(), group.process(),
                                        code_bytes, [&] { more_to_do(true); });
  more_to_do(false);
  const auto artifact_path = files.save(gptq ? folder.gptq_artifact() : folder.artifact(), packed.artifact.file);
  std::error_code ignored;
  std::filesystem::remove(gptq ? folder.artifact() : folder.gptq_artifact(), ignored);  // of a run resumed with other options
  const auto artifact_bytes = static_cast<int64_t>(packed.artifact.file.size());
  const QuantStats& stats = packed.stats;
  const double ratio =
      static_cast<double>(stats.baseline_tensor_bytes) / static_cast<double>(std::max<int64_t>(stats.payload_bytes, 1));
  log::info(format("Serialized model %s: %lld bytes (payload:%lld raw_torch:%zu payload_ratio:%.2fx)", form.c_str(),
                   static_cast<long long>(artifact_bytes), static_cast<long long>(stats.payload_bytes),
                   packed.artifact.unpacked_bytes, ratio));
  const int64_t total = artifact_bytes + code_bytes;
  log::info(format("Total submission size %s: %lld bytes", form.c_str(), static_cast<long long>(total)));
  const int64_t budget = output.budget_bytes;
  log_budget(artifact_bytes, code_bytes, budget);

  const ModelFile back = read_model_file(artifact_path);
  load_state_dict(trainer.model(), back.state, back.path.string());
  trainer.model()->set_extra_passes(trainer.config().model.num_loops);  // as the files' readers run it
  const Stopwatch watch;
  trainer.share_weights();
  const std::optional<EvalResult> result = trainer.validate();
  if (!result) {
    interrupted_scoring(artifact_path);
    files.save_rest(records);
    files.require_complete();
    return ExitCode::interrupted;
  }
  const double eval_ms = watch.milliseconds();
  std::string label = "final_" + form + "_roundtrip";  // by default upstream's final_int8_zlib_roundtrip
  std::replace(label.begin(), label.end(), '+', '_');
  log::info(format("%s val_loss:%.4f val_bpb:%.4f eval_time:%.0fms", label.c_str(), result->val_loss, result->val_bpb, eval_ms));
  log::info(format("%s_exact val_loss:%.8f val_bpb:%.8f", label.c_str(), result->val_loss, result->val_bpb));
  const bool scored = score_overlapping(trainer, &records);
  records.write(FinalRecord{.val_loss = result->val_loss,
                            .val_bpb = result->val_bpb,
                            .tokens = result->tokens,
                            .bytes = result->bytes,
                            .model_bytes = model_bytes,
                            .artifact_bytes = artifact_bytes,
                            .code_bytes = code_bytes,
                            .budget_bytes = budget,
                            .margin_bytes = budget - total,
                            .rope_dims = trainer.config().model.widest_rope().rope_dims});
  ExitCode code = judge(artifact_bytes, code_bytes, budget, result->val_loss);
  if (!scored) {
    code = ExitCode::interrupted;
    interrupted_scoring(artifact_path);
  }
  const auto agreed = static_cast<ExitCode>(static_cast<int>(group.sum({static_cast<double>(code)})[0]));
  files.save_rest(records);
  files.require_complete();  // the other ranks have their code already
  return agreed;
}

}  // namespace pgolf
