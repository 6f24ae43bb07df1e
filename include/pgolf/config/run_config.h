// The configuration of a training run as plain values, filled by config/options.h; only the programs read the environment and the
// command line. Defaults are upstream's.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "pgolf/artifact/model_format.h"
#include "pgolf/config/block_order.h"
#include "pgolf/config/byte_counting.h"
#include "pgolf/config/enum_text.h"
#include "pgolf/config/mlp_kind.h"
#include "pgolf/config/ops_path.h"
#include "pgolf/config/rope_spec.h"

namespace pgolf {

enum class DeviceChoice { automatic, cpu, cuda };
constexpr EnumTexts<DeviceChoice, 3> enum_texts(DeviceChoice) {
  return {{{"auto", DeviceChoice::automatic}, {"cpu", DeviceChoice::cpu}, {"cuda", DeviceChoice::cuda}}};
}

enum class DtypeChoice { automatic, float32, bfloat16 };
constexpr EnumTexts<DtypeChoice, 3> enum_texts(DtypeChoice) {
  return {{{"auto", DtypeChoice::automatic}, {"float32", DtypeChoice::float32}, {"bfloat16", DtypeChoice::bfloat16}}};
}

enum class SwitchChoice { automatic, on, off };
constexpr EnumTexts<SwitchChoice, 3> enum_texts(SwitchChoice) {
  return {{{"auto", SwitchChoice::automatic}, {"on", SwitchChoice::on}, {"off", SwitchChoice::off}}};
}

/// Tokens of a window, in training and evaluation.
constexpr int kMaxSeqLen = 1 << 24;

/// Width of the MLP, as a multiple of the model's.
constexpr int kMaxMlpMult = 1024;

/// Up to here the hash of a pair of tokens fits into 32 bits (model/token_extras.h).
constexpr int kMaxBigramVocabSize = 59'138;

struct ModelConfig {
  int vocab_size = 1024;
  int num_layers = 9;
  int model_dim = 512;
  int num_heads = 8;
  int num_kv_heads = 4;
  double mlp_mult = 2;
  bool tie_embeddings = true;
  double tied_embed_init_std = 0.005;
  double logit_softcap = 30.0;  ///< 0 = none
  double qk_gain_init = 1.5;
  double init_std = -1.0;  ///< of all matrices and the embedding; < 0: as upstream
  bool orthogonal_init = false;
  MlpKind mlp_kind = MlpKind::relu2;
  double mlp_leaky_slope = 0.5;  ///< slope below zero of the leaky kinds
  bool norm_weights = false;     ///< learned per-channel factor after the norms of blocks and head
  bool ln_scale = false;         ///< the norms of block i are multiplied by 1/sqrt(i + 1)
  bool unet_skips = true;        ///< from the first half of the blocks to the second
  bool skip_gates = false;       ///< interpolate between a skip connection and the stream, instead of adding
  bool resid_mix = true;         ///< each block starts with a learned mix of its input and the embedding
  bool smear_gate = false;       ///< mix the embedding with that of the position before
  int bigram_vocab_size = 0;     ///< rows of a table for pairs of tokens, added to the embedding; 0 = none
  int bigram_dim = 128;          ///< its columns
  std::vector<int> ve_layers;    ///< whose values get an embedding of the token
  int ve_dim = 128;              ///< columns of its table
  RopeSettings rope;
  RopeDims rope_dims;
  bool qk_norm = true;
  bool key_offset = false;               ///< keys' dimensions that do not rotate come from the position before
  std::vector<int> attention_window{0};  ///< per layer, repeated; 0 = all positions
  int xsa_last_n = 0;                    ///< blocks, from the last, with exclusive self-attention
  bool parallel_block = false;           ///< all blocks are parallel
  int parallel_residual_start = -1;      ///< blocks from this one on are parallel; -1: none
  int num_loops = 0;                     ///< extra passes over the blocks loop_start .. loop_end
  int loop_start = -1, loop_end = -1;

  RopeSpec rope_of(int layer) const;
  RopeSpec widest_rope() const;  ///< of the layer with the most rotated dimensions
  int head_dim() const { return model_dim / num_heads; }
  int mlp_matrices() const { return mlp_kind == MlpKind::swiglu ? 3 : 2; }
  int64_t kv_dim() const { return int64_t{num_kv_heads} * head_dim(); }
  int64_t mlp_hidden() const { return static_cast<int64_t>(mlp_mult * model_dim); }
  bool parallel(int layer) const { return parallel_block || (parallel_residual_start >= 0 && layer >= parallel_residual_start); }
  bool exclusive(int layer) const { return layer >= num_layers - xsa_last_n; }
  /// Positions that a query attends to, its own included; 0 = all up to its own.
  int window(int layer) const { return attention_window[static_cast<size_t>(layer) % attention_window.size()]; }
  double norm_factor(int layer) const;
  BlockOrder order(int extra_passes) const { return block_order(num_layers, loop_start, loop_end, extra_passes); }
  BlockOrder full_order() const { return order(num_loops); }
  int64_t skip_count() const;  ///< skip connections of the U-Net, in the full order
  /// Trainable parameters, by formula (17,059,912 for the defaults).
  int64_t parameter_count() const;
};

/// Order of the training tokens. stream: one after the other, as upstream. shuffled: in windows, as the record programs.
enum class LoaderChoice { stream, shuffled };
constexpr EnumTexts<LoaderChoice, 2> enum_texts(LoaderChoice) {
  return {{{"stream", LoaderChoice::stream}, {"shuffled", LoaderChoice::shuffled}}};
}

struct DataConfig {
  std::string data_path = "./data/datasets/fineweb10B_sp1024";
  std::string tokenizer_path = "./data/tokenizers/fineweb_1024_bpe.model";
  bool allow_other_data = false;  ///< let a resumed run have other shards than the checkpoint's
  LoaderChoice loader = LoaderChoice::stream;
  int64_t train_batch_tokens = 524'288;  ///< per optimizer step, over all ranks
  int64_t micro_batch_tokens = 0;        ///< 0 = see plan_micro_batches()
  int parallel_passes = 0;               ///< micro-batches in parallel; 0 = see plan_micro_batches()
  int train_seq_len = 1024;
  int64_t val_batch_size = 524'288;  ///< tokens, over all ranks and micro-steps
  int64_t eval_tokens = 0;           ///< validation tokens scored; 0 = all
  ByteCounting byte_counting = ByteCounting::rule;

  std::string train_files() const { return data_path + "/fineweb_train_*.bin"; }
  std::string val_files() const { return data_path + "/fineweb_val_*.bin"; }
};

/// Optimizer of the block matrices. adamw: Adam for everything, with decoupled weight decay (arXiv 1711.05101).
enum class OptimizerChoice { muon, adamw };
constexpr EnumTexts<OptimizerChoice, 2> enum_texts(OptimizerChoice) {
  return {{{"muon", OptimizerChoice::muon}, {"adamw", OptimizerChoice::adamw}}};
}

struct OptimConfig {
  OptimizerChoice optimizer = OptimizerChoice::muon;
  double weight_decay = 0.0;  ///< adamw, of matrices and embeddings
  // Decoupled decay, scaled by the learning rate: of Muon's matrices, of the token embedding, of all else but the head.
  double muon_wd = 0.0, embed_wd = 0.0, adam_wd = 0.0;
  double embed_lr = 0.6;
  double head_lr = 0.008;
  double tied_embed_lr = 0.05;
  double matrix_lr = 0.04;
  double scalar_lr = 0.04;
  double muon_momentum = 0.95;
  int muon_backend_steps = 5;
  double muon_momentum_warmup_start = 0.85;
  int muon_momentum_warmup_steps = 500;
  bool muon_row_normalize = false;
  DtypeChoice muon_dtype = DtypeChoice::automatic;  ///< of Newton-Schulz and the update; automatic = DTYPE
  double beta1 = 0.9;
  double beta2 = 0.95;
  double adam_eps = 1e-8;
  double grad_clip_norm = 0.0;  ///< 0 = off
  double ema_decay = 0.0;       ///< of the running mean of the weights; 0 = none
  /// A parameter whose name contains one of these stays float32 and is trained with Adam, whatever its shape.
  std::vector<std::string> control_patterns = {"attn_scale",  "attn_scales", "mlp_scale",   "mlp_scales",  "resid_mix",
                                               "resid_mixes", "q_gain",      "skip_weight", "skip_weights"};
};

/// golf: constant, then linear decay to 0 (upstream's). cosine: linear warmup, then half a cosine
/// (arXiv 1608.03983, one cycle).
enum class LrSchedule { golf, cosine };
constexpr EnumTexts<LrSchedule, 2> enum_texts(LrSchedule) {
  return {{{"golf", LrSchedule::golf}, {"cosine", LrSchedule::cosine}}};
}

struct ScheduleConfig {
  LrSchedule lr_schedule = LrSchedule::golf;
  double lr_warmup_frac = 0.05;  ///< cosine: warmup as a fraction of the budget
  double lr_min_scale = 0.1;     ///< cosine: final over peak learning rate
  int iterations = 20'000;
  int warmdown_iters = 1200;
  double warmdown_frac = -1.0;           ///< fraction of the budget (time, or iterations without a cap); < 0 = use warmdown_iters
  double min_lr = 0.0;                   ///< golf: lowest factor on the learning rates
  int warmup_steps = 20;                 ///< run before training, then undone; not timed
  double max_wallclock_seconds = 600.0;  ///< 0 = no cap
  double enable_looping_at = 0.5;        ///< fraction of the budget before which loops make no extra passes
  double rope_drop_at = -1;              ///< fraction of the budget after which nothing rotates; < 0: never
  double loop_phase2_at = 0.0;           ///< fraction before which they make one at most; 0 = enable_looping_at
  double gptq_reserve_seconds = 0.0;     ///< of the cap, for what follows training
  int min_steps = 0;                     ///< that should fit into the cap (train/min_steps.h); 0 = off

  /// Training time after which the run ends; 0 = no cap.
  double cap_ms() const {
    return max_wallclock_seconds > 0 ? 1000.0 * max_wallclock_seconds - 1000.0 * gptq_reserve_seconds : 0.0;
  }
};

struct RuntimeConfig {
  int64_t seed = 1337;
  DeviceChoice device = DeviceChoice::automatic;
  DtypeChoice dtype = DtypeChoice::automatic;
  OpsPath ops = OpsPath::fast;
  int num_threads = 0;  ///< 0 = default_threads()
  SwitchChoice cuda_graphs = SwitchChoice::automatic;
  bool deterministic = false;  ///< on a GPU; the CPU always is
};

/// Of torch.distributed. automatic: NCCL on a GPU, gloo on the CPU.
enum class DistBackend { automatic, nccl, gloo };
constexpr EnumTexts<DistBackend, 3> enum_texts(DistBackend) {
  return {{{"auto", DistBackend::automatic}, {"nccl", DistBackend::nccl}, {"gloo", DistBackend::gloo}}};
}

struct DistConfig {
  DistBackend backend = DistBackend::automatic;
  double timeout_seconds = 300;
  int grad_accum_steps = 0;                             ///< of each process; 0 = kMicroSteps / WORLD_SIZE
  DtypeChoice gradient_dtype = DtypeChoice::automatic;  ///< of the sums over processes; automatic = the gradients'
  int check_ranks = 0;                                  ///< compare all weights every so many steps; 0 = never
};

/// How GPTQ limits the weights of a row. sigmas: at a multiple of the row's standard deviation. search: at one of five quantiles.
enum class GptqClip { sigmas, search };
constexpr EnumTexts<GptqClip, 2> enum_texts(GptqClip) {
  return {{{"sigmas", GptqClip::sigmas}, {"search", GptqClip::search}}};
}

/// The text on which GPTQ sees a matrix's inputs: of the training data, or sampled from the model itself.
enum class GptqCalibration { train, self };
constexpr EnumTexts<GptqCalibration, 2> enum_texts(GptqCalibration) {
  return {{{"train", GptqCalibration::train}, {"self", GptqCalibration::self}}};
}

/// QUANTIZER=gptq.
struct GptqConfig {
  GptqCalibration calibration = GptqCalibration::train;
  int calibration_batches = 64;
  GptqClip clip = GptqClip::sigmas;
  int matrix_bits = 6;
  int embed_bits = 8;
  double matrix_clip_sigmas = 12.85;
  double embed_clip_sigmas = 20;
  double hessian_clip_lambda = 0;
};

/// QUANTIZER.
constexpr EnumTexts<Quantizer, 2> enum_texts(Quantizer) {
  return {{{"int8", Quantizer::int8}, {"gptq", Quantizer::gptq}}};
}

/// COMPRESSOR.
constexpr EnumTexts<Codec, 3> enum_texts(Codec) {
  return {{{"zlib", Codec::zlib}, {"lzma", Codec::lzma}, {"brotli", Codec::brotli}}};
}

/// What a run writes besides log and metrics.jsonl.
enum class LoggerChoice { none, tensorboard };
constexpr EnumTexts<LoggerChoice, 2> enum_texts(LoggerChoice) {
  return {{{"none", LoggerChoice::none}, {"tensorboard", LoggerChoice::tensorboard}}};
}

/// Text sampled during training.
struct SampleConfig {
  int every = 0;  ///< steps; 0 = never
  int tokens = 64;
  std::string prompt;  ///< empty: a new document
};

struct OutputConfig {
  std::string out_dir = "runs";
  std::string fallback_dir;  ///< for final files if out_dir cannot be written; empty: the temporary folder
  std::string run_id;        ///< set by the resolver: given, or time plus a short hash
  bool run_id_given = false;
  int train_log_every = 200;  ///< 0 = never
  int val_loss_every = 1000;  ///< 0 = only at the end
  int save_every = 0;         ///< training checkpoint every N steps; 0 = only when interrupted
  int keep_last = 2;          ///< training checkpoints kept
  int profile_steps = 0;      ///< steps to profile after the first three; 0 = off
  LoggerChoice loggers = LoggerChoice::none;
  int histogram_every = 0;  ///< steps between histograms of all weights; 0 = never
  SampleConfig sample;
  int64_t budget_bytes = 16'000'000;
  bool fit_budget = false;  ///< raise GPTQ's clips until the artifact fits
  ArtifactFormat artifact;  ///< artifact.codes: set by the resolver
  GptqConfig gptq;
  std::vector<std::string> int8_keep_float_patterns;  ///< stored as float32; set by the resolver
};

/// Plain SGD on the tokens of a chunk after they have been scored (train/test_time_training.h).
struct TestTimeTraining {
  bool enabled = false;
  double lr = 0.005;  ///< of the first chunk; falls to 0 over the chunks, by half a cosine
  int epochs = 3;
  double momentum = 0.9;
  int64_t chunk_tokens = 32'768;
};

/// Scores of the artifact besides the plain one.
struct ScoreConfig {
  int eval_stride = 0;  ///< between overlapping windows; 0 = none
  TestTimeTraining ttt;
};

struct RunConfig {
  ModelConfig model;
  DataConfig data;
  OptimConfig optim;
  ScheduleConfig schedule;
  RuntimeConfig runtime;
  DistConfig dist;
  OutputConfig output;
  ScoreConfig score;
};

}  // namespace pgolf
