#include "pgolf/model_io/model_file.h"

#include "pgolf/artifact/codec.h"
#include "pgolf/artifact/torch_file.h"
#include "pgolf/model_io/checkpoint.h"
#include "pgolf/model_io/model_writer.h"
#include "pgolf/model_io/tensors.h"
#include "support/files.h"
#include "support/models.h"

namespace pgolf::testing {
namespace {

ModelConfig stored_config() {
  ModelConfig config = tiny_config();
  config.num_layers = 3;
  config.rope_dims = 4;
  config.rope.base = 5000;
  config.logit_softcap = 20;
  return config;
}

/// A state dict as train_gpt writes it; with empty metadata as upstream does.
void write_pt(const fs::path& path, const StateDict& state, const ModelMetadata& metadata) {
  NamedTensors raw;
  for (const auto& [name, tensor] : state) raw.emplace_back(name, to_raw(tensor));
  write_atomic(path, save_torch(state_dict_value(raw, upstream_module_paths(stored_config()), metadata), "final_model"));
}

void write_ptz(const fs::path& path, const StateDict& state, const ModelMetadata& metadata) {
  write_atomic(path, make_artifact(quantize_int8(state, OptimConfig().control_patterns), metadata).file);
}

fs::path write_checkpoint(const fs::path& folder, const StateDict& state, int64_t step) {
  TrainingState training;
  training.step = step;
  training.model = model_metadata(stored_config(), 24);
  StateDict tensors;
  for (const auto& [name, tensor] : state) tensors.emplace_back("model." + name, tensor);
  tensors.emplace_back("muon.momentum_buffer.x", torch::zeros({3}));
  save_checkpoint(folder, training, tensors);
  return folder / format("step_%08d.safetensors", static_cast<int>(step));
}

void expect_stored_config(const ModelFile& file) {
  const ModelConfig& model = file.stored.model;
  EXPECT_EQ(model_metadata(model, file.stored.train_seq_len), model_metadata(stored_config(), 24));
  EXPECT_EQ(model.widest_rope().rope_dims, 4);
  EXPECT_EQ(model.head_dim(), 8);
  EXPECT_EQ(file.stored.train_seq_len, 24);
  EXPECT_TRUE(file.assumed.empty());
}

class ModelFiles : public ::testing::Test {
 protected:
  Gpt model_ = make_random_model(stored_config());
  StateDict state_ = state_dict(model_);
  ModelMetadata metadata_ = model_metadata(stored_config(), 24);
  at::Tensor ids_ = random_ids(2, 12, 48);
  TempFolder folder_;
};

TEST_F(ModelFiles, StateDictKeepsBitsAndArchitecture) {
  torch::NoGradGuard no_grad;
  write_pt(folder_ / "m.pt", state_, metadata_);
  const auto file = read_model_file(folder_ / "m.pt");
  EXPECT_EQ(format_text(file.format), "torch");
  EXPECT_EQ(file.path, folder_ / "m.pt");
  expect_stored_config(file);
  expect_same_tensors(file.state, state_);
  Gpt built = build_model(file, at::kFloat, OpsPath::reference, at::kCPU);
  EXPECT_FALSE(built->is_training());
  EXPECT_TRUE(at::equal(built->logits(ids_), model_->logits(ids_)));
}

TEST_F(ModelFiles, ArtifactKeepsTheArchitectureAndNearlyTheWeights) {
  torch::NoGradGuard no_grad;
  write_ptz(folder_ / "m.int8.ptz", state_, metadata_);
  const auto file = read_model_file(folder_ / "m.int8.ptz");
  EXPECT_EQ(format_text(file.format), "int8+zlib");
  expect_stored_config(file);
  Gpt built = build_model(file, at::kFloat, OpsPath::reference, at::kCPU);
  EXPECT_LT(distance(built->logits(ids_), model_->logits(ids_)), 0.1);
}

TEST_F(ModelFiles, CheckpointKeepsBitsAndArchitecture) {
  torch::NoGradGuard no_grad;
  const auto path = write_checkpoint(folder_ / "checkpoints", state_, 5);
  const auto file = read_model_file(path);
  EXPECT_EQ(format_text(file.format), "training checkpoint");
  expect_stored_config(file);
  expect_same_tensors(file.state, state_);
  EXPECT_TRUE(at::equal(build_model(file, at::kFloat, OpsPath::reference, at::kCPU)->logits(ids_), model_->logits(ids_)));
}

TEST_F(ModelFiles, EverythingAboutTheRotationIsStored) {
  ModelConfig config = stored_config();
  config.rope = {5000, RopeTableDtype::bfloat16, RopeStyle::interleaved, RopeSelect::uniform, RopeScaling::yarn, 4.0, 256};
  config.rope_dims = {8, 0, 4};
  config.qk_norm = false;
  config.parallel_block = true;
  ModelMetadata metadata = model_metadata(config, 24);
  write_pt(folder_ / "m.pt", state_, metadata);
  const ModelConfig read = read_model_file(folder_ / "m.pt").stored.model;
  EXPECT_EQ(read.rope, config.rope);
  for (const int layer : {0, 1, 2}) EXPECT_EQ(read.rope_of(layer), config.rope_of(layer)) << layer;
  EXPECT_FALSE(read.qk_norm);
  EXPECT_TRUE(read.parallel_block);

  metadata["ROPE_LAYERS"] = "8,3";
  write_pt(folder_ / "m.pt", state_, metadata);
  EXPECT_THROW(read_model_file(folder_ / "m.pt"), Error);
}

TEST_F(ModelFiles, FilesFromBeforeAnOptionHaveItsDefault) {
  for (const char* name : {"ROPE_LAYERS", "ROPE_STYLE", "ROPE_SELECT", "ROPE_SCALING", "ROPE_SCALING_FACTOR",
                           "ROPE_ORIGINAL_SEQ_LEN", "QK_NORM", "PARALLEL_BLOCK"}) {
    ASSERT_EQ(metadata_.erase(name), 1u) << name;
  }
  write_pt(folder_ / "m.pt", state_, metadata_);
  expect_stored_config(read_model_file(folder_ / "m.pt"));
  metadata_.erase("ROPE_BASE");
  write_pt(folder_ / "m.pt", state_, metadata_);
  EXPECT_THROW(read_model_file(folder_ / "m.pt"), Error);
}

TEST_F(ModelFiles, RunFolderResolvesToItsBestFile) {
  const auto format_of = [&] { return format_text(read_model_file(folder_.path()).format); };
  write_checkpoint(folder_ / "checkpoints", state_, 5);
  write_checkpoint(folder_ / "checkpoints", state_, 12);
  EXPECT_EQ(read_model_file(folder_.path()).path, folder_ / "checkpoints/step_00000012.safetensors");
  write_pt(folder_ / "final_model.pt", state_, metadata_);
  EXPECT_EQ(format_of(), "torch");
  write_ptz(folder_ / "final_model.int8.ptz", state_, metadata_);
  EXPECT_EQ(format_of(), "int8+zlib");
}

TEST_F(ModelFiles, WithoutStoredConfigurationTheModelIsInferred) {
  torch::NoGradGuard no_grad;
  for (const bool tied : {true, false}) {
    ModelConfig config = stored_config();
    config.tie_embeddings = tied;
    config.mlp_mult = 3;
    config.num_kv_heads = 1;
    config.rope = {};
    config.rope_dims = {};
    config.logit_softcap = ModelConfig().logit_softcap;
    Gpt source = make_random_model(config);
    for (const char* name : {"python.pt", "python.ptz"}) {
      const bool packed = std::string(name) == "python.ptz";
      packed ? write_ptz(folder_ / name, state_dict(source), {}) : write_pt(folder_ / name, state_dict(source), {});
      const auto file = read_model_file(folder_ / name);
      const ModelConfig& model = file.stored.model;
      EXPECT_EQ(model.vocab_size, 48);
      EXPECT_EQ(model.num_layers, 3);
      EXPECT_EQ(model.model_dim, 32);
      EXPECT_EQ(model.num_heads, 4);
      EXPECT_EQ(model.num_kv_heads, 1);
      EXPECT_EQ(model.mlp_mult, 3);
      EXPECT_EQ(model.tie_embeddings, tied);
      EXPECT_EQ(model.widest_rope().rope_dims, 8);
      EXPECT_EQ(std::count(file.assumed.begin(), file.assumed.end(), "ROPE_DIMS=full"), 1);
      EXPECT_EQ(std::count(file.assumed.begin(), file.assumed.end(), "LOGIT_SOFTCAP=30.0"), 1);
      EXPECT_EQ(std::count(file.assumed.begin(), file.assumed.end(), "TRAIN_SEQ_LEN=1024"), 1);
      Gpt built = build_model(file, at::kFloat, OpsPath::reference, at::kCPU);
      EXPECT_LT(distance(built->logits(ids_), source->logits(ids_)), packed ? 0.1 : 1e-12);
    }
  }
}

TEST_F(ModelFiles, LoopsAreNotInferredButAsked) {
  torch::NoGradGuard no_grad;
  ModelConfig config = tiny_config();
  config.num_layers = 4;
  config.mlp_mult = 100 / 32.0;
  config.num_loops = 2, config.loop_start = 1, config.loop_end = 2;
  config.skip_gates = true;
  Gpt source = make_random_model(config);
  write_pt(folder_ / "python.pt", state_dict(source), {});
  expect_error(ExitCode::bad_input, {"skip_weights has 4 rows, but 4 blocks with NUM_LOOPS=0 have 2 skip connections"},
               [&] { read_model_file(folder_ / "python.pt"); });
  const auto looped = [](ModelFile& file) {
    EXPECT_EQ(std::count(file.assumed.begin(), file.assumed.end(), "NUM_LOOPS=0"), 1);
    ModelConfig& model = file.stored.model;
    model.num_loops = 2, model.loop_start = 1, model.loop_end = 2;
  };
  const auto file = read_model_file(folder_ / "python.pt", looped);
  EXPECT_EQ(file.stored.model.mlp_hidden(), 100);
  EXPECT_TRUE(file.stored.model.skip_gates);
  Gpt built = build_model(file, at::kFloat, OpsPath::reference, at::kCPU);
  EXPECT_EQ(built->extra_passes(), 2);
  EXPECT_LT(distance(built->logits(ids_), source->logits(ids_)), 1e-12);
}

TEST_F(ModelFiles, LoopsAndPartsOfTheBlocksAreStored) {
  torch::NoGradGuard no_grad;
  ModelConfig config = tiny_config();
  config.num_layers = 4;
  config.mlp_mult = 1.7;
  config.num_loops = 2, config.loop_start = 1, config.loop_end = 2;
  config.ln_scale = config.skip_gates = true;
  config.xsa_last_n = 2;
  config.parallel_residual_start = 3;
  Gpt source = make_random_model(config);
  write_pt(folder_ / "ours.pt", state_dict(source), metadata_for_file({config, 24, ""}));
  Gpt built = build_model(read_model_file(folder_ / "ours.pt"), at::kFloat, OpsPath::reference, at::kCPU);
  EXPECT_LT(distance(built->logits(ids_), source->logits(ids_)), 1e-12);
}

TEST_F(ModelFiles, TokenExtrasAreInferredExceptTheirBlocks) {
  torch::NoGradGuard no_grad;
  ModelConfig config = tiny_config();
  config.smear_gate = true;
  config.bigram_vocab_size = 20, config.bigram_dim = 12;
  config.ve_layers = {1}, config.ve_dim = 8;
  Gpt source = make_random_model(config);
  write_pt(folder_ / "ours.pt", state_dict(source), metadata_for_file({config, 24, ""}));
  write_pt(folder_ / "python.pt", state_dict(source), {});
  expect_error(ExitCode::bad_input, {"1 blocks have value embeddings, VE_LAYERS lists 0"},
               [&] { read_model_file(folder_ / "python.pt"); });
  const auto second = [](ModelFile& file) { file.stored.model.ve_layers = {1}; };
  for (const auto& file : {read_model_file(folder_ / "ours.pt"), read_model_file(folder_ / "python.pt", second)}) {
    Gpt built = build_model(file, at::kFloat, OpsPath::reference, at::kCPU);
    EXPECT_LT(distance(built->logits(ids_), source->logits(ids_)), 1e-12);
  }
}

TEST_F(ModelFiles, TheHiddenWidthIsInferredExactly) {
  torch::NoGradGuard no_grad;
  ModelConfig config = tiny_config();
  config.model_dim = 52, config.num_heads = config.num_kv_heads = 2;
  for (const int64_t hidden : {1, 15, 51, 52, 107}) {  // 15 / 52. * 52 is less than 15, and so is it with 107
    config.mlp_mult = (static_cast<double>(hidden) + 0.5) / 52;
    ASSERT_EQ(config.mlp_hidden(), hidden);
    Gpt source = make_model(config);
    write_pt(folder_ / "python.pt", state_dict(source), {});
    EXPECT_EQ(read_model_file(folder_ / "python.pt").stored.model.mlp_hidden(), hidden);
  }
}

TEST_F(ModelFiles, ParallelBlocksShowInTheirNorms) {
  ModelConfig config = tiny_config();
  config.num_layers = 3;
  config.norm_weights = true;
  for (const int start : {-1, 1, 2, 0}) {
    config.parallel_residual_start = start;
    Gpt source = make_model(config);
    write_pt(folder_ / "python.pt", state_dict(source), {});
    const ModelConfig model = read_model_file(folder_ / "python.pt").stored.model;
    for (int layer = 0; layer < 3; ++layer) EXPECT_EQ(model.parallel(layer), config.parallel(layer)) << start << " " << layer;
  }
}

/// Every Llama-like shape option that can be inferred from tensors.
ModelConfig plain_config() {
  ModelConfig config = tiny_config();
  config.mlp_kind = MlpKind::swiglu;
  config.norm_weights = config.parallel_block = true;
  config.unet_skips = config.resid_mix = false;
  return config;
}

TEST_F(ModelFiles, PlainShapesAreInferredFromNames) {
  torch::NoGradGuard no_grad;
  Gpt source = make_random_model(plain_config());
  write_pt(folder_ / "python.pt", state_dict(source), {});
  const auto file = read_model_file(folder_ / "python.pt");
  EXPECT_EQ(std::count(file.assumed.begin(), file.assumed.end(), "MLP_KIND=relu2"), 0);
  Gpt built = build_model(file, at::kFloat, OpsPath::reference, at::kCPU);
  EXPECT_LT(distance(built->logits(ids_), source->logits(ids_)), 1e-12);
}

TEST_F(ModelFiles, ThePlainShapesAreStored) {
  torch::NoGradGuard no_grad;
  ModelConfig config = plain_config();
  config.mlp_kind = MlpKind::leaky_relu;
  config.mlp_leaky_slope = 0.125;
  config.logit_softcap = 0;
  Gpt source = make_random_model(config);
  write_pt(folder_ / "ours.pt", state_dict(source), model_metadata(config, 24));
  const auto file = read_model_file(folder_ / "ours.pt");
  EXPECT_EQ(file.stored.model.mlp_leaky_slope, 0.125);
  EXPECT_EQ(file.stored.model.logit_softcap, 0);
  Gpt built = build_model(file, at::kFloat, OpsPath::reference, at::kCPU);
  EXPECT_LT(distance(built->logits(ids_), source->logits(ids_)), 1e-12);
}

TEST_F(ModelFiles, Bfloat16ModelsKeepTheirDtypes) {
  set_parameter_precision(model_, at::kBFloat16, OptimConfig().control_patterns);
  write_pt(folder_ / "m.pt", state_dict(model_), metadata_);
  const auto file = read_model_file(folder_ / "m.pt");
  expect_same_tensors(file.state, state_dict(model_));
  Gpt half = build_model(file, at::kBFloat16, OpsPath::reference, at::kCPU);
  EXPECT_EQ(half->tok_emb->weight.scalar_type(), at::kBFloat16);
  EXPECT_EQ(half->logits(ids_).scalar_type(), at::kBFloat16);
  EXPECT_EQ(build_model(file, at::kFloat, OpsPath::reference, at::kCPU)->logits(ids_).scalar_type(), at::kFloat);
}

TEST_F(ModelFiles, FilesThatAreNotModelsAreRejectedInOneLine) {
  const auto refused = [&](const fs::path& path, const std::vector<std::string>& parts) {
    std::vector<std::string> all{path.string()};
    all.insert(all.end(), parts.begin(), parts.end());
    expect_error(ExitCode::bad_input, all, [&] { read_model_file(path); });
  };
  refused(folder_ / "missing.pt", {});
  refused(folder_ / "missing", {});
  fs::create_directory(folder_ / "empty");
  refused(folder_ / "empty", {"final_model.int8.ptz", "checkpoint"});
  for (const char* name : {"notes.pt", "notes.ptz", "notes.safetensors", "notes.txt", "notes"}) {
    write_file(folder_ / name, "these are only notes, and no model at all");
    refused(folder_ / name, {});
    write_file(folder_ / name, "");
    refused(folder_ / name, {});
  }
  NamedTensors foreign{{"conv1.weight", to_raw(torch::randn({3, 3}))}};
  write_atomic(folder_ / "foreign.pt", save_torch(state_dict_value(foreign, {""}, {}), "foreign"));
  refused(folder_ / "foreign.pt", {"tok_emb.weight"});
  Dict numbers;
  numbers.set(text("step"), 3);
  write_atomic(folder_ / "numbers.pt", save_torch(numbers, "numbers"));
  refused(folder_ / "numbers.pt", {"step"});
}

TEST_F(ModelFiles, ImpossibleShapesAreRejected) {
  const auto refused = [&](const std::string& name, const at::Tensor& tensor, const std::string& part) {
    StateDict bad = state_;
    for (auto& [key, value] : bad) {
      if (key == name) value = tensor;
    }
    write_pt(folder_ / "bad.pt", bad, {});
    expect_error(ExitCode::bad_input, {(folder_ / "bad.pt").string(), part}, [&] { read_model_file(folder_ / "bad.pt"); });
  };
  refused("tok_emb.weight", torch::zeros({48}), "tok_emb.weight");
  refused("tok_emb.weight", torch::zeros({48, 0}), "head_dim");
  refused("tok_emb.weight", torch::zeros({48, 36}), "head_dim");
  refused("tok_emb.weight", torch::zeros({48, 33}), "q_gain");
  refused("blocks.0.attn.q_gain", torch::zeros({0}), "q_gain");
  refused("blocks.0.attn.c_k.weight", torch::zeros({7, 32}), "c_k");
  refused("blocks.0.attn.c_k.weight", torch::zeros({24, 32}), "key/value heads");
  refused("blocks.0.attn.c_k.weight", torch::zeros({int64_t{8} << 32, 0}), "c_k");
  refused("blocks.0.mlp.fc.weight", torch::zeros({int64_t{32} << 32, 0}), "MLP");
  refused("blocks.0.mlp.fc.weight", torch::zeros({33, 32}), "blocks.0.mlp.proj.weight");
}

TEST_F(ModelFiles, AMissingTensorIsNamed) {
  for (const bool with_config : {true, false}) {
    StateDict partial;
    for (const auto& entry : state_) {
      if (entry.first != "blocks.1.attn.proj.weight") partial.push_back(entry);
    }
    write_pt(folder_ / "partial.pt", partial, with_config ? metadata_ : ModelMetadata());
    expect_error(ExitCode::bad_input, {(folder_ / "partial.pt").string(), "blocks.1.attn.proj.weight"},
                 [&] { build_model(read_model_file(folder_ / "partial.pt"), at::kFloat, OpsPath::reference, at::kCPU); });
  }
}

TEST_F(ModelFiles, AnIncompleteStoredConfigurationIsRejected) {
  ModelMetadata lacking = metadata_, unreadable = metadata_;
  lacking.erase("NUM_HEADS");
  unreadable["ROPE_DIMS"] = "3";
  write_pt(folder_ / "lacking.pt", state_, lacking);
  expect_error(ExitCode::bad_input, {"lacking.pt", "NUM_HEADS"}, [&] { read_model_file(folder_ / "lacking.pt"); });
  write_ptz(folder_ / "unreadable.ptz", state_, unreadable);
  expect_error(ExitCode::bad_input, {"unreadable.ptz", "ROPE_DIMS"}, [&] { read_model_file(folder_ / "unreadable.ptz"); });
}

TEST_F(ModelFiles, DamageIsDetected) {
  write_ptz(folder_ / "m.ptz", state_, metadata_);
  damage_file(folder_ / "m.ptz");
  expect_error(ExitCode::bad_input, {(folder_ / "m.ptz").string()}, [&] { read_model_file(folder_ / "m.ptz"); });
  const auto checkpoint = write_checkpoint(folder_ / "checkpoints", state_, 5);
  damage_file(checkpoint);
  expect_error(ExitCode::bad_input, {checkpoint.string(), "checksum"}, [&] { read_model_file(checkpoint); });
  write_pt(folder_ / "m.pt", state_, metadata_);
  damage_file(folder_ / "m.pt");
  expect_error(ExitCode::bad_input, {(folder_ / "m.pt").string()}, [&] { read_model_file(folder_ / "m.pt"); });
  for (const char* name : {"cut.pt", "cut.ptz"}) {
    std::string(name) == "cut.pt" ? write_pt(folder_ / name, state_, metadata_) : write_ptz(folder_ / name, state_, metadata_);
    const std::string content = read_text(folder_ / name);
    for (const size_t size : {size_t{3}, content.size() / 2, content.size() - 1}) {
      write_file(folder_ / name, content.substr(0, size));
      expect_error(ExitCode::bad_input, {(folder_ / name).string()}, [&] { read_model_file(folder_ / name); });
    }
  }
}

}  // namespace
}  // namespace pgolf::testing
