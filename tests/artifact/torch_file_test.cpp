#include "pgolf/artifact/torch_file.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "pgolf/artifact/codec.h"
#include "pgolf/artifact/pickle.h"
#include "pgolf/artifact/safetensors.h"
#include "pgolf/artifact/zip.h"
#include "pgolf/base/hash.h"
#include "support.h"

namespace pgolf {
namespace {

namespace fs = std::filesystem;
using artifact_test::damage_everywhere;
using artifact_test::expect_bad_input;
using artifact_test::shared_file;
using artifact_test::TemporaryFolder;
using artifact_test::tensor;
using artifact_test::to_bytes;
using artifact_test::values;

NamedTensors linear_tensors() {
  return {{"fc.weight", tensor<float>(DType::float32, {2, 3}, {0, 1, 2, 3, 4, 5})},
          {"fc.bias", tensor<float>(DType::float32, {2}, {-1, 0.5})}};
}

// ---- bytes recorded from torch 2.11.0's torch.save

TEST(TorchFile, StateDictIsByteForByteThatOfPython) {
  // Sequential with one Linear "fc", saved to "model.pt".
  const Bytes file = save_torch(state_dict_value(linear_tensors(), {"", "fc"}, {}), "model");
  EXPECT_EQ(file.size(), 1941u);
  EXPECT_EQ(sha256_hex(file), "a6c26876a3224d405e60217bbc5a805b3c546830ea24e3372cd3df80ef3bc0fb");
}

TEST(TorchFile, EveryDtypeIsByteForByteThatOfPython) {
  Dict object;
  object.set(text("f64"), tensor<double>(DType::float64, {1}, {0.5}));
  object.set(text("f32"), tensor<float>(DType::float32, {}, {1.5}));
  object.set(text("f16"), tensor<uint16_t>(DType::float16, {1, 2}, {0x3c00, 0x4000}));
  object.set(text("bf16"), tensor<uint16_t>(DType::bfloat16, {1}, {0x3f80}));
  object.set(text("i64"), tensor<int64_t>(DType::int64, {1}, {-1}));
  object.set(text("i32"), tensor<int32_t>(DType::int32, {1}, {7}));
  object.set(text("i16"), tensor<int16_t>(DType::int16, {1}, {-2}));
  object.set(text("i8"), tensor<int8_t>(DType::int8, {1, 1, 1}, {1}));
  const RawTensor twice = tensor<uint8_t>(DType::uint8, {2}, {1, 2});
  object.set(text("u8"), twice);
  object.set(text("bool"), tensor<uint8_t>(DType::boolean, {2}, {1, 0}));
  object.set(text("empty"), tensor<float>(DType::float32, {0, 3}, {}));
  object.set(text("shared"), RawTensor{DType::uint8, {1, 2}, twice.bytes});
  const Bytes file = save_torch(object);
  EXPECT_EQ(file.size(), 4226u);
  EXPECT_EQ(sha256_hex(file), "b8e98289b1c45e5fb56f5f906a87d6e8147f247830be57cb09636cb3c292f8dc");

  const Value read = load_torch(file, "x.pt");
  EXPECT_EQ(save_torch(read), file);
  const Dict& dict = read.as_dict("x");
  EXPECT_EQ(dict.find("u8")->as_tensor("x").bytes, dict.find("shared")->as_tensor("x").bytes);
  EXPECT_EQ(values<int64_t>(dict.find("i64")->as_tensor("x")), std::vector<int64_t>{-1});
}

// ---- round trips

TEST(TorchFile, StateDictRoundTrip) {
  const TemporaryFolder folder;
  const std::map<std::string, std::string> config = {{"ROPE_DIMS", "16"}, {"empty", ""}, {"lines", "a\nb=\"c\""}};
  write_atomic(folder.path() / "model.pt", save_torch(state_dict_value(linear_tensors(), {"", "fc"}, config), "model"));

  const Value read = load_torch_file(folder.path() / "model.pt");
  EXPECT_EQ(state_dict_config(read, "model.pt"), config);
  EXPECT_TRUE(read.as_dict("x").ordered());
  const Dict& metadata = read.as_dict("x").find_attribute("_metadata")->as_dict("x");
  EXPECT_EQ(metadata.find("fc")->as_dict("x").find("version")->as_int("x"), 1);
  const NamedTensors tensors = as_named_tensors(read, "model.pt");
  ASSERT_EQ(tensors.size(), 2u);
  EXPECT_EQ(tensors[0].first, "fc.weight");
  EXPECT_EQ(tensors[0].second.shape, (std::vector<int64_t>{2, 3}));
  EXPECT_EQ(values<float>(tensors[1].second), (std::vector<float>{-1, 0.5}));
}

TEST(TorchFile, WrongTypesAreNamed) {
  const Value plain = load_torch(save_torch(state_dict_value(linear_tensors(), {""}, {})), "x");
  EXPECT_TRUE(state_dict_config(plain, "x").empty());
  expect_bad_input([] { as_named_tensors(List{}, "a.pt"); }, "a.pt: the top level has type list; expected dict");
  Dict nested;
  nested.set(text("model"), Dict());
  expect_bad_input([&] { as_named_tensors(nested, "a.pt"); }, "a.pt: entry \"model\" has type dict; expected tensor");
  Dict state(/*ordered=*/true), config;
  config.set(text("ROPE_DIMS"), 16);
  state.add_attribute(text("pgolf_config"), config);
  expect_bad_input([&] { state_dict_config(state, "a.pt"); }, "pgolf_config entry \"ROPE_DIMS\" has type int; expected str");
}

TEST(TorchFile, ArchivesOfOtherKinds) {
  expect_bad_input([] { load_torch(to_bytes("\x80\x02}."), "old.pt"); }, "old.pt: not a zip archive");
  TorchZipWriter no_pickle("top");
  expect_bad_input([&] { load_torch(no_pickle.finish(), "x"); }, "no data.pkl");
  TorchZipWriter big_endian("top");
  big_endian.add("data.pkl", as_bytes("\x80\x02}."));
  big_endian.add("byteorder", as_bytes("big"));
  expect_bad_input([&] { load_torch(big_endian.finish(), "x"); }, "big-endian");

  Pickled pickled = pickle(state_dict_value(linear_tensors(), {""}, {}));
  TorchZipWriter no_storage("top");
  no_storage.add("data.pkl", pickled.pickle);
  no_storage.add("data/0", *pickled.storages[0]);
  expect_bad_input([&] { load_torch(no_storage.finish(), "x"); }, "storage \"1\" is not in the archive");
  TorchZipWriter short_storage("top");
  short_storage.add("data.pkl", pickled.pickle);
  short_storage.add("data/0", BytesView(*pickled.storages[0]).first(23));
  expect_bad_input([&] { load_torch(short_storage.finish(), "x"); }, "its record has 23 bytes");
}

TEST(TorchFile, DamageNeverCrashes) {
  damage_everywhere(save_torch(state_dict_value(linear_tensors(), {"", "fc"}, {{"k", "v"}}), "model"),
                    [](BytesView bytes) { as_named_tensors(load_torch(bytes, "x"), "x"); });
}

// ---- upstream's files

std::vector<fs::path> recorded_files() {
  std::vector<fs::path> files;
  for (const char* folder : {"checkpoints", "reference/train_tiny"}) {
    if (!fs::exists(shared_file(folder))) continue;
    for (const auto& entry : fs::recursive_directory_iterator(shared_file(folder))) {
      if (entry.path().extension() == ".pt" || entry.path().extension() == ".ptz") files.push_back(entry.path());
    }
  }
  std::sort(files.begin(), files.end());
  return files;
}

TEST(TorchFile, RewritesPythonsFilesByteForByte) {
  const std::vector<fs::path> files = recorded_files();
  if (files.empty()) GTEST_SKIP() << "no recorded files under " << shared_file("");
  int whole = 0;
  for (const fs::path& path : files) {
    SCOPED_TRACE(path);
    Bytes file = read_bytes(path);
    if (path.extension() == ".ptz") file = zlib_decompress(file, size_t{1} << 30, path.string());
    const ZipReader zip(file, path.string());
    const std::string top = zip.records().front().name.substr(0, zip.records().front().name.find('/'));
    const Value value = load_torch(file, path.string());
    EXPECT_GT(value.as_dict("x").size(), 0u);

    // Python stores the device with each storage; ours are always on the CPU.
    const BytesView original = zip.find(top + "/data.pkl")->bytes;
    const std::string_view original_text(reinterpret_cast<const char*>(original.data()), original.size());
    if (original_text.find("cuda:0") != std::string_view::npos) continue;
    EXPECT_TRUE(std::ranges::equal(pickle(value).pickle, original));

    // Older PyTorch wrote fewer records.
    if (zip.find(top + "/.storage_alignment") == nullptr) continue;
    const Bytes written = save_torch(value, top);
    ASSERT_EQ(written.size(), file.size());
    // The first half of the serialization id depends on the standard library PyTorch was built with, and differs
    // on Windows and macOS. It is the last record before the directory.
    const auto id = zip.find(top + "/.data/serialization_id")->bytes.data() - file.data();
    EXPECT_TRUE(std::equal(file.begin(), file.begin() + id, written.begin()));
    EXPECT_TRUE(std::equal(file.begin() + id + 20, file.begin() + id + 40, written.begin() + id + 20));
    if (std::equal(file.begin() + id, file.begin() + id + 20, written.begin() + id)) {
      EXPECT_TRUE(written == file);
      ++whole;
    }
  }
  EXPECT_GT(whole, 0);
  RecordProperty("identical_files", whole);
}

TEST(TorchFile, BuildsUpstreamsStateDict) {
  const fs::path path = shared_file("reference/train_tiny/bf16.final_model.pt");
  if (!fs::exists(path)) GTEST_SKIP() << path << " is absent";
  std::vector<std::string> modules = {"", "tok_emb", "blocks"};
  for (int block = 0; block < 4; ++block) {
    const std::string prefix = "blocks." + std::to_string(block);
    modules.push_back(prefix);
    for (const char* child : {".attn_norm", ".mlp_norm", ".attn", ".attn.c_q", ".attn.c_k", ".attn.c_v", ".attn.proj",
                              ".attn.rotary", ".mlp", ".mlp.fc", ".mlp.proj"}) {
      modules.push_back(prefix + child);
    }
  }
  modules.push_back("final_norm");
  // New tensors and names with only their content from the file.
  const NamedTensors tensors = as_named_tensors(load_torch_file(path), "x");
  const Bytes built = save_torch(state_dict_value(tensors, modules, {}), "final_model");
  EXPECT_EQ(sha256_hex(built), "ad8525df1127d5911fac88194b2e6d50f35b77c77d6bf927cc1d340be47df15a");
}

TEST(TorchFile, BuildsUpstreamsInt8Object) {
  const fs::path json_path = shared_file("reference/int8/synthetic.json");
  if (!fs::exists(json_path)) GTEST_SKIP() << json_path << " is absent";
  const auto facts = nlohmann::ordered_json::parse(read_text(json_path));
  const Safetensors stored = load_safetensors(shared_file("reference/int8/synthetic.safetensors"));
  const auto find = [&](const std::string& name) {
    return std::find_if(stored.tensors.begin(), stored.tensors.end(), [&](const auto& entry) { return entry.first == name; })
        ->second;
  };
  const auto& scalars = facts["scale_is_scalar"];
  const Text scheme = text("scheme"), per_row = text("per_row"), axis = text("axis");
  Dict quantized, scales, dtypes, passthrough, qmeta, original_dtypes;
  for (const auto& [name, unused] : facts["quantized"].items()) {
    const Text key = text(name);
    quantized.set(key, find("quantized." + name));
    RawTensor scale = find("scales." + name);
    if (std::find(scalars.begin(), scalars.end(), name) != scalars.end()) {
      scale.shape.clear();
    } else {
      Dict meta;
      meta.set(scheme, per_row);
      meta.set(axis, 0);
      qmeta.set(key, meta);
    }
    scales.set(key, scale);
    dtypes.set(key, text(facts["dtypes"][name].get<std::string>()));
  }
  for (const auto& [name, unused] : facts["passthrough"].items()) {
    const Text key = text(name);
    passthrough.set(key, find("passthrough." + name));
    const auto& originals = facts["passthrough_orig_dtypes"];
    if (originals.contains(name)) original_dtypes.set(key, text(originals[name].get<std::string>()));
  }
  Dict object;
  object.set(text("__quant_format__"), text("int8_clean_per_row_v1"));
  object.set(text("quantized"), quantized);
  object.set(text("scales"), scales);
  object.set(text("dtypes"), dtypes);
  object.set(text("passthrough"), passthrough);
  object.set(text("qmeta"), qmeta);
  object.set(text("passthrough_orig_dtypes"), original_dtypes);
  const Bytes built = save_torch(object);
  EXPECT_EQ(built.size(), facts["raw_torch_save_bytes"].get<size_t>());
  EXPECT_EQ(sha256_hex(built), facts["raw_torch_save_sha256"].get<std::string>());
}

}  // namespace
}  // namespace pgolf
