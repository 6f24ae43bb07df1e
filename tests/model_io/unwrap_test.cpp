// Weights within what trainers and wrappers of modules put around them.
#include "pgolf/artifact/codec.h"
#include "pgolf/artifact/contents.h"
#include "pgolf/artifact/pickle.h"
#include "pgolf/artifact/torch_file.h"
#include "pgolf/artifact/zip.h"
#include "pgolf/model_io/checkpoint.h"
#include "pgolf/model_io/model_file.h"
#include "pgolf/model_io/model_writer.h"
#include "pgolf/model_io/tensors.h"
#include "smallest_model.h"
#include "support/files.h"

namespace pgolf::testing {
namespace {

/// Each name changed by rename.
using Rename = std::function<std::string(const std::string&)>;

class Unwrap : public ::testing::Test {
 protected:
  StateDict renamed(const Rename& rename) const {
    StateDict out;
    for (const auto& [name, tensor] : state_) out.emplace_back(rename(name), tensor);
    return out;
  }
  static Rename prefixed(const std::string& prefix) {
    return [prefix](const std::string& name) { return prefix + name; };
  }
  /// As a state dict; with the configuration of config_.
  Value weights(const Rename& rename = prefixed(""), bool with_config = true) const {
    NamedTensors raw;
    for (const auto& [name, tensor] : renamed(rename)) raw.emplace_back(name, to_raw(tensor));
    return state_dict_value(raw, {""}, with_config ? metadata_ : ModelMetadata());
  }
  static Dict dict(const std::vector<std::pair<std::string, Value>>& entries) {
    Dict out;
    for (const auto& [key, value] : entries) out.set(text(key), value);
    return out;
  }
  static Value tensor(std::vector<int64_t> shape, at::ScalarType type = at::kFloat) { return to_raw(torch::ones(shape, type)); }

  void expect_read(const fs::path& path, const std::string& unwrapped, const std::string& stored_prefix) const {
    const ModelFile file = read_model_file(path);
    EXPECT_EQ(file.unwrapped, unwrapped);
    expect_same_tensors(file.state, state_);
    for (const auto& [name, value] : file.state) {
      const auto other = file.stored_names.find(name);
      EXPECT_EQ(other == file.stored_names.end() ? name : other->second, stored_prefix + name);
    }
  }
  void expect_read(const Value& content, const std::string& unwrapped, const std::string& stored_prefix) const {
    write_atomic(folder_ / "m.pt", save_torch(content));
    expect_read(folder_ / "m.pt", unwrapped, stored_prefix);
    EXPECT_EQ(read_model_file(folder_ / "m.pt").metadata, metadata_);
    write_atomic(folder_ / "m.ptz", zlib_compress(save_torch(content), 1));
    expect_read(folder_ / "m.ptz", unwrapped, stored_prefix);
  }
  void expect_refused(const Value& content, std::vector<std::string> parts) const {
    write_atomic(folder_ / "m.pt", save_torch(content));
    parts.push_back((folder_ / "m.pt").string());
    expect_error(ExitCode::bad_input, parts, [&] { read_model_file(folder_ / "m.pt"); });
  }

  ModelConfig config_ = smallest_config();
  Gpt model_ = make_random_model(config_);
  StateDict state_ = state_dict(model_);
  ModelMetadata metadata_ = model_metadata(config_, 8);
  TempFolder folder_;
};

TEST_F(Unwrap, PlainFilesAreNotUnwrapped) {
  expect_read(weights(), "", "");
}

TEST_F(Unwrap, EveryKindOfWrapperAndPrefix) {
  for (const std::string key : {"model", "state_dict", "model_state_dict", "module", "net", "weights", "ema"}) {
    const std::string at = "the weights at \"" + key + "\"";
    expect_read(dict({{key, weights()}}), at, key + ".");
    for (const std::string prefix : {"_orig_mod.", "module.", "model.", "module._orig_mod.", "_orig_mod.module.model.", "gpt."})
      expect_read(dict({{"epoch", 3}, {key, weights(prefixed(prefix))}}), at + ", without the prefix \"" + prefix + "\"",
                  key + "." + prefix);
  }
  for (const std::string prefix : {"_orig_mod.", "module.", "model."})
    expect_read(weights(prefixed(prefix)), "the weights without the prefix \"" + prefix + "\"", prefix);
  expect_read(dict({{"state", dict({{"step", 1}, {"model", dict({{"module", weights()}})}})}}),
              "the weights at \"state.model.module\"", "state.model.module.");
}

TEST_F(Unwrap, WhatTrainersSaveNextToTheWeights) {
  const Value moments = dict({{"exp_avg", weights(prefixed(""), false)}});
  const Value optimizer = dict({{"state", dict({{"0", dict({{"exp_avg", tensor({4, 4})}})}})}, {"named", moments}});
  expect_read(dict({{"model", weights()},
                    {"optimizer", optimizer},
                    {"optim_state", moments},
                    {"rng_state", tensor({100}, at::kByte)},
                    {"best_val_loss", tensor({})},
                    {"loss", tensor({1})},
                    {"args", text("...")},
                    {"history", List{{0.5, 0.25}}},
                    {"metrics", dict({{"train", tensor({7})}})},
                    {"scheduler", {}}}),
              "the weights at \"model\"", "model.");
}

TEST_F(Unwrap, AConfigurationNextToTheWeightsCounts) {
  Dict config;
  for (const auto& [key, value] : metadata_) config.set(text(key), text(value));
  const Value content = dict({{"epoch", 3}, {"state_dict", weights(prefixed("module."), false)}, {"pgolf_config", config}});
  expect_read(content, "the weights at \"state_dict\", without the prefix \"module.\"", "state_dict.module.");
}

TEST_F(Unwrap, PartsWithinNames) {
  const auto compiled_blocks = [](const std::string& name) {
    const std::string block = "blocks.0.";
    return name.starts_with(block) ? block + "_orig_mod._checkpoint_wrapped_module." + name.substr(block.size()) : name;
  };
  write_atomic(folder_ / "m.pt", save_torch(dict({{"model", weights(compiled_blocks)}})));
  const ModelFile file = read_model_file(folder_ / "m.pt");
  expect_same_tensors(file.state, state_);
  EXPECT_EQ(file.unwrapped, "the weights at \"model\", without _orig_mod., _checkpoint_wrapped_module. in names");
  EXPECT_EQ(file.stored_names.at("blocks.0.attn_scale"), "model.blocks.0._orig_mod._checkpoint_wrapped_module.attn_scale");
  // Only whole parts.
  expect_refused(weights([](const std::string& name) { return name == "skip_weights" ? "x_orig_mod.skip_weights" : name; }),
                 {"unknown: x_orig_mod.skip_weights"});
  // Two names become one.
  StateDict twice = state_;
  twice.emplace_back("_orig_mod.skip_weights", state_[0].second);
  write_model(folder_ / "twice.safetensors", twice, config_, metadata_);
  expect_error(ExitCode::bad_input, {"skip_weights twice"}, [&] { read_model_file(folder_ / "twice.safetensors"); });
}

TEST_F(Unwrap, SafetensorsAndArtifactsHavePrefixesToo) {
  const StateDict compiled = renamed(prefixed("module._orig_mod."));
  write_model(folder_ / "m.safetensors", compiled, config_, metadata_);
  expect_read(folder_ / "m.safetensors", "the weights without the prefix \"module._orig_mod.\"", "module._orig_mod.");
  write_model(folder_ / "m.ptz", compiled, config_, metadata_);
  const ModelFile file = read_model_file(folder_ / "m.ptz");
  EXPECT_EQ(names_of(file.state), names_of(state_));
  EXPECT_EQ(file.unwrapped, "the weights without the prefix \"module._orig_mod.\"");
}

TEST_F(Unwrap, StoredNamesAreThoseOfTheContents) {
  write_atomic(folder_ / "m.pt", save_torch(dict({{"state_dict", weights(prefixed("model."))}, {"bias", tensor({1})}})));
  const ModelFile file = read_model_file(folder_ / "m.pt");
  const FileContents contents = list_contents(open_model_container(folder_ / "m.pt"), "m.pt");
  for (const auto& [name, stored] : file.stored_names) {
    EXPECT_TRUE(std::any_of(contents.tensors.begin(), contents.tensors.end(), [&stored = stored](const StoredTensor& tensor) {
      return tensor.name == stored;
    })) << stored;
  }
  EXPECT_EQ(file.stored_names.size(), state_.size());
}

TEST_F(Unwrap, AmbiguousFilesAreRefused) {
  expect_refused(dict({{"model", weights()}, {"ema", weights()}}), {"several models", "\"model\"", "\"ema\"", "state_dict()"});
  expect_refused(dict({{"model", weights()}, {"callbacks", dict({{"ema", weights(prefixed("module."))}})}}),
                 {"several models", "\"callbacks.ema\""});
  expect_refused(dict({{"model", weights()}, {"bias", tensor({4})}}), {"at \"model\"", "tensor \"bias\"", "may be a part"});
  expect_refused(dict({{"a", dict({{"b", weights()}, {"c", tensor({2, 2}, at::kBFloat16)}})}}), {"at \"a.b\"", "tensor \"c\""});

  const auto but_one = [](const std::string& name) { return name == "skip_weights" ? "loss.weight" : "model." + name; };
  expect_refused(weights(but_one), {"start with \"model.\"", "\"loss.weight\" does not"});
  expect_refused(dict({{"state_dict", weights(but_one)}}), {"\"loss.weight\" does not"});
  StateDict both = renamed(prefixed("model."));
  for (const auto& entry : renamed(prefixed("ema."))) both.push_back(entry);
  write_model(folder_ / "both.safetensors", both, config_, metadata_);
  expect_error(ExitCode::bad_input, {"both.safetensors", "start with \"ema.\"", "\"model.skip_weights\" does not"},
               [&] { read_model_file(folder_ / "both.safetensors"); });
}

TEST_F(Unwrap, OtherFilesAreRefusedWithWhatTheyHold) {
  const char* missing = "no tensor tok_emb.weight";
  expect_refused(dict({}), {missing, "an empty dict"});
  expect_refused(List{{weights()}}, {missing, "found list"});
  expect_refused(dict({{"epoch", 3}, {"args", dict({})}}), {missing, "epoch (int), args (dict)"});
  expect_refused(dict({{"model", dict({{"conv.weight", tensor({3, 3})}})}, {"step", 3}}), {missing, "found conv"});
  expect_refused(dict({{"conv.weight", tensor({3, 3})}, {"step", 3}}), {missing, "conv.weight (tensor), step (int)"});
  const std::string long_key(600, 'k');
  expect_refused(dict({{long_key, dict({{long_key, weights()}})}}), {"a model under names of 1201 bytes"});
  // Codes, and moments of an optimizer.
  expect_refused(dict({{"quantized", dict({{"tok_emb.weight", tensor({4, 4}, at::kChar)}})}}), {"integers"});
  expect_refused(dict({{"scales.tok_emb.weight", tensor({4})}, {"x", tensor({4})}}), {missing, "found scales, x"});
  expect_refused(dict({{"optimizer", dict({{"exp_avg", weights()}})}}), {missing, "optimizer (dict)"});
  // An entry that is no tensor is not guessed at.
  Value more = weights();
  std::get<Dict>(more.content()).set(text("step"), 3);
  expect_refused(dict({{"model", more}}), {"m.pt at \"model\": entry \"step\" has type int; expected tensor"});
}

TEST_F(Unwrap, AWholeModuleIsTold) {
  TorchZipWriter zip("archive");
  zip.add("data.pkl", as_bytes("\x80\x02"
                               "c__main__\nGPT\n)\x81}b."));
  write_atomic(folder_ / "m.pt", zip.finish());
  expect_error(ExitCode::bad_input, {"m.pt is not a GPT of this family", "found __main__.GPT", "state_dict()"},
               [&] { read_model_file(folder_ / "m.pt"); });
}

TEST_F(Unwrap, CompressedSafetensorsAndCheckpoints) {
  write_model(folder_ / "m.safetensors", state_, config_, metadata_);
  TrainingState training;
  training.step = 5;
  training.model = metadata_;
  StateDict tensors = renamed(prefixed("model."));
  tensors.emplace_back("muon.momentum_buffer.x", torch::zeros({3}));
  save_checkpoint(folder_.path(), training, tensors);
  const fs::path checkpoint = folder_ / "step_00000005.safetensors";
  for (const Codec codec : {Codec::zlib, Codec::lzma, Codec::brotli}) {
    write_atomic(folder_ / "packed", compress(codec, read_bytes(folder_ / "m.safetensors")));
    expect_read(folder_ / "packed", "", "");
    EXPECT_EQ(format_text(read_model_file(folder_ / "packed").format), std::string("safetensors+") + codec_name(codec));
    write_atomic(folder_ / "renamed.pt", compress(codec, read_bytes(checkpoint)));
    expect_read(folder_ / "renamed.pt", "", "model.");
    EXPECT_EQ(load_checkpoint(folder_ / "renamed.pt").state.step, 5);
  }
}

TEST_F(Unwrap, ModelsAreNotCheckpoints) {
  write_model(folder_ / "final_model.pt", state_, config_, metadata_);
  write_model(folder_ / "final_model.int8.ptz", state_, config_, metadata_);
  write_model(folder_ / "m.safetensors", state_, config_, metadata_);
  write_file(folder_ / "notes.txt", "notes");
  for (const auto& [name, part] : std::map<std::string, std::string>{{"final_model.pt", "is a model (torch) without"},
                                                                     {"final_model.int8.ptz", "is a model (int8+zlib) without"},
                                                                     {"m.safetensors", "is a model (safetensors) without"},
                                                                     {"notes.txt", "a text file"},
                                                                     {"missing", "No such file"}}) {
    expect_error(ExitCode::bad_input,
                 {(folder_ / name).string(), part, "resume from a run folder or from a file in its checkpoints/"},
                 [&path = name, this] { load_checkpoint(folder_ / path); });
  }
}

// ---- pickles recorded from Python, see make_pickles.py

class TrainersCheckpoint : public Unwrap {
 protected:
  Bytes archive(BytesView pickle) const {
    TorchZipWriter zip("archive");
    zip.add("data.pkl", pickle);
    size_t number = 0;
    for (const auto& entry : state_) zip.add("data/" + std::to_string(number++), *to_raw(entry.second).bytes);
    for (const Bytes& moment : {Bytes(16), Bytes(16)}) zip.add("data/" + std::to_string(number++), moment);
    return zip.finish();
  }
  static Bytes recorded(int protocol) {
    return read_bytes(fs::path(PGOLF_SOURCE_DIR) / format("tests/model_io/pickles/lightning.protocol%d.pkl", protocol));
  }
};

TEST_F(TrainersCheckpoint, IsReadInAllProtocols) {
  for (const int protocol : {2, 3, 4, 5}) {
    const Bytes pickle = recorded(protocol);
    ASSERT_EQ(pickle[1], static_cast<std::byte>(protocol));
    write_atomic(folder_ / "last.ckpt", archive(pickle));
    expect_read(folder_ / "last.ckpt", "the weights at \"state_dict\", without the prefix \"model._orig_mod.\"",
                "state_dict.model._orig_mod.");
    const FileContents contents = list_contents(open_model_container(folder_ / "last.ckpt"), "f");
    const auto has_note = [&](const std::string& key, const std::string& value) {
      return std::find(contents.notes.begin(), contents.notes.end(), std::pair(key, value)) != contents.notes.end();
    };
    EXPECT_TRUE(has_note("epoch", "3"));
    EXPECT_TRUE(has_note("hyper_parameters", "<argparse.Namespace>"));
    EXPECT_TRUE(has_note("callbacks.ModelCheckpoint.path", "<pathlib.PurePosixPath>"));
    EXPECT_TRUE(has_note("optimizer_states.0.state.1.step", "7"));
    EXPECT_TRUE(has_note("optimizer_states.0.param_groups.0.betas.1", "0.95"));
    EXPECT_TRUE(has_note("optimizer_states.0.param_groups.1.betas", "<another entry's container>"));
  }
}

TEST_F(TrainersCheckpoint, DamageGivesAnErrorOrAModel) {
  for (const int protocol : {2, 5}) {
    const Bytes original = recorded(protocol);
    int accepted = 0;
    for (size_t at = 0; at < original.size(); ++at) {
      for (const int value : {0x00, 0x2e, 0x7d, 0xff}) {
        Bytes damaged = original;
        damaged[at] = static_cast<std::byte>(value);
        accepted += survives(folder_ / "m.pt", archive(damaged));
      }
    }
    EXPECT_GT(accepted, 0);
  }
}

TEST_F(Unwrap, DamagedCompressedSafetensorsGiveAnErrorOrAModel) {
  write_model(folder_ / "m.safetensors", renamed(prefixed("_orig_mod.")), config_, {});
  const Bytes original = compress(Codec::brotli, read_bytes(folder_ / "m.safetensors"));
  for (size_t at = 0; at < original.size(); ++at) {
    for (const int flip : {0x01, 0xff}) {
      Bytes damaged = original;
      damaged[at] ^= static_cast<std::byte>(flip);
      survives(folder_ / "m", damaged);
    }
  }
}

}  // namespace
}  // namespace pgolf::testing
