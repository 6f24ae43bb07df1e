#include "pgolf/artifact/model_container.h"

#include <gtest/gtest.h>
#include <sys/resource.h>

#include <algorithm>
#include <cmath>

#include "pgolf/artifact/code_format.h"
#include "pgolf/artifact/codec.h"
#include "pgolf/artifact/contents.h"
#include "pgolf/artifact/pickle.h"
#include "pgolf/artifact/torch_file.h"
#include "pgolf/artifact/zip.h"
#include "support.h"

namespace pgolf {
namespace {

using namespace std::string_view_literals;
using artifact_test::damage_everywhere;
using artifact_test::expect_bad_input;
using artifact_test::survives;
using artifact_test::TemporaryFolder;
using artifact_test::tensor;
using artifact_test::to_bytes;

NamedTensors weights() {
  return {{"tok_emb.weight", tensor<float>(DType::float32, {2, 2}, {1, 2, 3, 4})},
          {"gain", tensor<uint16_t>(DType::bfloat16, {2}, {0x3f80, 0x4000})}};
}

Dict table(const std::string& key, Value value) {
  Dict dict;
  dict.set(text(key), std::move(value));
  return dict;
}

Dict int8_object(const char* format = "int8_clean_per_row_v1") {
  Dict object;
  object.set(text("__quant_format__"), text(format));
  object.set(text("quantized"), table("w", tensor<int8_t>(DType::int8, {2, 4}, {1, 1, 1, 1, 2, 2, 3, 3})));
  object.set(text("scales"), table("w", tensor<uint16_t>(DType::float16, {2}, {0x3c00, 0x3c00})));
  object.set(text("dtypes"), table("w", text("bfloat16")));
  object.set(text("passthrough"), table("gain", tensor<uint16_t>(DType::float16, {1}, {0x3c00})));
  object.set(text("passthrough_orig_dtypes"), table("gain", text("float32")));
  object.set(text("bits"), 8);
  object.set(text("pgolf_config"), table("ROPE_DIMS", text("16")));
  return object;
}

/// Of the record programs; types: with a dictionary for each quantized tensor's method.
Dict gptq_object(bool types = false) {
  Dict weights, methods;
  weights.set(text("gain"), tensor<uint16_t>(DType::float16, {1}, {0x3c00}));
  weights.set(text("w.q"), tensor<int8_t>(DType::int8, {2, 4}, {1, 1, 1, 1, 2, 2, 3, 3}));
  weights.set(text("w.scale"), tensor<uint16_t>(DType::float16, {2}, {0x3c00, 0x3c00}));
  methods.set(text("gain"), text(types ? "passthrough" : "passthrough (float16)"));
  methods.set(text("w"), types ? Value(table("type", text("int6"))) : Value(text("gptq (int6)")));
  Dict object;
  object.set(text("w"), std::move(weights));
  object.set(text("m"), std::move(methods));
  return object;
}

Bytes torch_file() {
  return save_torch(state_dict_value(weights(), {"", "tok_emb"}, {{"ROPE_DIMS", "4"}}), "model");
}
Bytes artifact_file() {
  return zlib_compress(save_torch(int8_object()), 9);
}
Bytes safetensors_file(const std::map<std::string, std::string>& metadata) {
  const TemporaryFolder folder;
  save_safetensors(folder.path() / "f", {weights(), metadata});
  return read_bytes(folder.path() / "f");
}
Bytes plain_safetensors() {
  return safetensors_file(safetensors_metadata({{"ROPE_DIMS", "4"}, {"QUOTES", "a\"b"}}));
}
Bytes checkpoint_file() {
  return safetensors_file({{"format", "train_gpt checkpoint 1"},
                           {"sha256", "00"},
                           {"state", R"({"step": 7, "best_val_loss": 2.5, "config": {}, "model": {"ROPE_DIMS": "8"}})"}});
}

FileContents contents_of(const Bytes& file) {
  return list_contents(parse_model_container(file, "f"), "f");
}
std::string format_of(const Bytes& file) {
  return format_text(parse_model_container(file, "f").format);
}
void refuse_file(const Bytes& file, std::string_view part) {
  expect_bad_input([&] { parse_model_container(file, "f"); }, part);
}

TEST(ModelContainer, FormatIsDetectedByContent) {
  EXPECT_EQ(format_of(torch_file()), "torch");
  EXPECT_EQ(format_of(artifact_file()), "int8+zlib");
  EXPECT_EQ(format_of(save_torch(int8_object())), "int8");
  EXPECT_EQ(format_of(zlib_compress(torch_file(), 1)), "torch+zlib");
  EXPECT_EQ(format_of(compress(Codec::lzma, torch_file())), "torch+lzma");
  EXPECT_EQ(format_of(compress(Codec::brotli, save_torch(int8_object()))), "int8+brotli");
  // The record programs shuffle before xz as well, and not always before Brotli.
  EXPECT_EQ(format_of(lzma_compress(byte_shuffle(save_torch(int8_object())), 6)), "int8+lzma");
  EXPECT_EQ(format_of(brotli_compress(save_torch(int8_object()))), "int8+brotli");
  EXPECT_EQ(format_of(compress(Codec::brotli, save_torch(gptq_object()))), "gptq+brotli");
  EXPECT_EQ(format_of(compress(Codec::lzma, save_torch(gptq_object(true)))), "gptq+lzma");
  EXPECT_EQ(format_of(plain_safetensors()), "safetensors");
  // A header length of 376 bytes starts like a zlib stream: 78 01.
  std::string padding;
  Bytes file;
  do {
    file = safetensors_file({{"padding", padding += 'x'}});
  } while (file[0] != std::byte{0x78} && padding.size() < 400);
  ASSERT_EQ(file[1], std::byte{0x01});
  EXPECT_EQ(format_of(file), "safetensors");
  EXPECT_EQ(format_of(checkpoint_file()), "training checkpoint");
  for (const Codec codec : {Codec::zlib, Codec::lzma, Codec::brotli}) {
    EXPECT_EQ(format_of(compress(codec, plain_safetensors())), std::string("safetensors+") + codec_name(codec));
    EXPECT_EQ(format_of(compress(codec, checkpoint_file())), std::string("training checkpoint+") + codec_name(codec));
  }
  EXPECT_EQ(format_of(brotli_compress(plain_safetensors())), "safetensors+brotli");
  const Bytes artifact = artifact_file();
  const auto container = parse_model_container(artifact, "f");
  EXPECT_EQ(container.file_bytes, artifact.size());
  EXPECT_EQ(container.unpacked_bytes, save_torch(int8_object()).size());
  const TemporaryFolder folder;
  write_atomic(folder.path() / "named_anyhow", artifact);
  EXPECT_EQ(format_text(open_model_container(folder.path() / "named_anyhow").format), "int8+zlib");
  expect_bad_input([&] { open_model_container(folder.path() / "missing.pt"); }, "missing.pt");
}

TEST(ModelContainer, ForeignFilesAreNamed) {
  const std::pair<std::string_view, const char*> files[] = {
      {"\x28\xb5\x2f\xfd more"sv, "zstd-compressed"},
      {"\x5d\0\0\x80\0 more"sv, "LZMA-compressed"},
      {"\x1f\x8b\x08 more"sv, "gzip-compressed"},
      {"BZh91AY"sv, "bzip2-compressed"},
      {"GGUF\3\0\0\0"sv, "a GGUF model"},
      {"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19."sv, "before PyTorch 1.6"},
      {"\x80\x04\x95 more"sv, "a bare Python pickle"},
      {"\x93NUMPY\1\0"sv, "a NumPy array"},
      {"\n\x0e\n\5<unk>\x15\0\0\0\0"sv, "a SentencePiece model"},
      {"version https://git-lfs.github.com/spec/v1\n"sv, "a Git LFS pointer"},
      {"<!DOCTYPE html><html>"sv, "a web page"},
      {"{\"a\": 1}\n"sv, "JSON"},
      {"\x88\xd8\x34\x01\x01\0\0\0"sv, "a token shard"},
      {""sv, "an empty file"},
      {"\x01\x02\x03\x04\x05\x06"sv, "neither a torch.save archive nor safetensors"},
  };
  for (const auto& [content, part] : files) {
    refuse_file(to_bytes(content), part);
    refuse_file(zlib_compress(to_bytes(content), 9), "the zlib stream holds ");
    refuse_file(lzma_compress(to_bytes(content), 0), "the lzma stream holds ");
  }
}

TEST(ModelContainer, ForeignArchivesAreNamed) {
  TorchZipWriter script("model"), numpy("arrays"), other("x");
  script.add("data/0", as_bytes("...."));
  script.add("data.pkl", as_bytes("\x80\x02N."));
  script.add("constants.pkl", as_bytes("\x80\x02)."));
  numpy.add("arr_0.npy", as_bytes("\x93NUMPY"));
  other.add("weights.bin", as_bytes("...."));
  const std::pair<Bytes, const char*> files[] = {{script.finish(), "a TorchScript archive (save its state_dict() instead)"},
                                                 {numpy.finish(), "a NumPy .npz archive"},
                                                 {other.finish(), "a ZIP archive"}};
  for (const auto& [file, kind] : files) {
    refuse_file(file, std::string("f: not a model file: ") + kind);
    refuse_file(zlib_compress(file, 9), std::string("the zlib stream holds ") + kind);
  }
}

TEST(ModelContainer, TruncatedFilesAreNamed) {
  for (const Bytes& file : {torch_file(), artifact_file(), plain_safetensors()}) {
    refuse_file(Bytes(file.begin(), file.end() - 1), "truncated");
    refuse_file(Bytes(file.begin(), file.begin() + static_cast<ptrdiff_t>(file.size() / 2)), "truncated");
  }
}

TEST(Contents, ArtifactsAreListedAsStored) {
  for (const char* format : {"int8_clean_per_row_v1", "int8_clean_per_row_v2"}) {
    const FileContents contents = contents_of(zlib_compress(save_torch(int8_object(format)), 9));
    EXPECT_EQ(contents.quant_format, format);
    ASSERT_EQ(contents.tensors.size(), 2u);
    const StoredTensor &codes = contents.tensors[0], &gain = contents.tensors[1];
    EXPECT_EQ(codes.name, "w");
    EXPECT_EQ(codes.data.dtype, DType::int8);
    EXPECT_EQ(codes.dtype, "bfloat16");
    ASSERT_TRUE(codes.scale);
    EXPECT_EQ(codes.scale->shape, std::vector<int64_t>{2});
    EXPECT_EQ(codes.bytes(), 8 + 4);
    EXPECT_EQ(gain.name, "gain");
    EXPECT_EQ(gain.dtype, "float32");
    EXPECT_FALSE(gain.scale);
    EXPECT_EQ(contents.config, (std::map<std::string, std::string>{{"ROPE_DIMS", "16"}}));
    EXPECT_NE(std::find(contents.notes.begin(), contents.notes.end(), std::pair<std::string, std::string>("bits", "8")),
              contents.notes.end());
  }
}

TEST(Contents, MethodsOfTheRecordProgramsAreListed) {
  for (const bool types : {false, true}) {
    Dict object = gptq_object(types);
    object.set(text("pgolf_config"), table("ROPE_DIMS", text("16")));
    object.set(text("bits"), 6);
    const FileContents contents = contents_of(compress(Codec::brotli, save_torch(object)));
    EXPECT_EQ(contents.quant_format, "");
    ASSERT_EQ(contents.tensors.size(), 2u);
    const StoredTensor &gain = contents.tensors[0], &codes = contents.tensors[1];
    EXPECT_EQ(gain.name, "gain");
    EXPECT_EQ(gain.method, types ? "passthrough" : "passthrough (float16)");
    EXPECT_EQ(gain.dtype, "float32");
    EXPECT_EQ(codes.name, "w");
    EXPECT_EQ(codes.method, types ? "int6" : "gptq (int6)");
    EXPECT_EQ(codes.data.dtype, DType::int8);
    ASSERT_TRUE(codes.scale);
    EXPECT_EQ(codes.bytes(), 8 + 4);
    EXPECT_EQ(contents.config.at("ROPE_DIMS"), "16");
    EXPECT_EQ(contents.notes, (std::vector<std::pair<std::string, std::string>>{{"bits", "6"}}));
  }
  // What is inconsistent is listed all the same.
  Dict object = gptq_object(), weights = object.find("w")->as_dict("w");
  weights.set(text("more"), tensor<int8_t>(DType::int8, {1}, {1}));
  object.set(text("w"), std::move(weights));
  const FileContents contents = contents_of(save_torch(object));
  ASSERT_EQ(contents.tensors.size(), 3u);
  EXPECT_EQ(contents.tensors[2].name, "more");
}

TEST(Contents, StateDictsAndSafetensorsKeepOrderAndConfiguration) {
  for (const Bytes& file : {torch_file(), plain_safetensors()}) {
    const FileContents contents = contents_of(file);
    EXPECT_EQ(contents.quant_format, "");
    ASSERT_EQ(contents.tensors.size(), 2u);
    EXPECT_EQ(contents.tensors[0].name, "tok_emb.weight");
    EXPECT_EQ(contents.tensors[1].dtype, "bfloat16");
    EXPECT_EQ(contents.config.at("ROPE_DIMS"), "4");
  }
  EXPECT_EQ(contents_of(plain_safetensors()).config.at("QUOTES"), "a\"b");
  const FileContents checkpoint = contents_of(checkpoint_file());
  EXPECT_EQ(checkpoint.config.at("ROPE_DIMS"), "8");
  EXPECT_NE(std::find(checkpoint.notes.begin(), checkpoint.notes.end(), std::pair<std::string, std::string>("step", "7")),
            checkpoint.notes.end());
}

TEST(Contents, NestedEntriesHavePaths) {
  Dict object;
  object.set(text("model"), table("w", weights()[0].second));
  object.set(text("rates"), List{{0.5, Tuple{{true, {}}}}});
  const FileContents contents = contents_of(save_torch(object));
  ASSERT_EQ(contents.tensors.size(), 1u);
  EXPECT_EQ(contents.tensors[0].name, "model.w");
  const std::vector<std::pair<std::string, std::string>> expected = {
      {"rates.0", "0.5"}, {"rates.1.0", "True"}, {"rates.1.1", "None"}};
  EXPECT_EQ(contents.notes, expected);
}

TEST(Contents, PathsHaveALimit) {
  Value nested = weights()[0].second;
  for (const char c : {'a', 'b', 'c'}) nested = table(std::string(900, c), std::move(nested));
  const FileContents contents = contents_of(save_torch(nested));
  ASSERT_EQ(contents.tensors.size(), 1u);
  EXPECT_EQ(contents.tensors[0].name, std::string(900, 'c') + "." + std::string(900, 'b') + "." + std::string(198, 'a'));
}

TEST(Contents, AConfigurationMustHaveStringValues) {
  for (const char* json : {"{\"a\": 1}", "[]", "nonsense", ""}) {
    expect_bad_input(
        [&] {
          contents_of(safetensors_file({{"pgolf_config", json}}));
        },
        "pgolf_config is not a JSON object of strings");
  }
  Dict object = int8_object();
  object.set(text("pgolf_config"), table("ROPE_DIMS", 16));
  expect_bad_input([&] { contents_of(save_torch(object)); }, "pgolf_config");
}

TEST(Contents, EntropyCountsBitsPerCode) {
  const auto entropy = [](const std::vector<int8_t>& codes) {
    return code_entropy(tensor<int8_t>(DType::int8, {static_cast<int64_t>(codes.size())}, codes));
  };
  EXPECT_EQ(entropy({}), 0);
  EXPECT_EQ(entropy({5, 5, 5}), 0);
  EXPECT_DOUBLE_EQ(entropy({-1, 1, -1, 1}), 1);
  EXPECT_DOUBLE_EQ(entropy({0, 0, 1, 2}), 1.5);
  std::vector<int8_t> all;
  for (int i = -128; i < 128; ++i) all.push_back(static_cast<int8_t>(i));
  EXPECT_DOUBLE_EQ(entropy(all), 8);
}

// ---- hostile files

void read_all(BytesView file) {
  const ModelContainer container = parse_model_container(file, "f");
  list_contents(container, "f");
  if (container.format.codes != CodeFormat::none) read_codes(std::get<Value>(container.content).as_dict("f"), "f");
}

TEST(ModelContainer, DamageNeverCrashes) {
  // State dicts: TorchFile.DamageNeverCrashes. Level 0 has a small dictionary: 64 MiB take a sanitizer milliseconds to allocate.
  for (const Bytes& file : {artifact_file(), lzma_compress(save_torch(int8_object()), 0),
                            compress(Codec::brotli, save_torch(int8_object())), plain_safetensors(), checkpoint_file()}) {
    damage_everywhere(file, read_all);
  }
}

TEST(ModelContainer, DamagedSafetensorsInStreamsNeverCrash) {
  for (const Bytes& file : {zlib_compress(plain_safetensors(), 9), compress(Codec::brotli, plain_safetensors())})
    damage_everywhere(file, read_all);
}

/// An archive with valid checksums around a possibly damaged pickle, which random damage of a file hardly ever produces.
Bytes archive_of(const Pickled& pickled) {
  TorchZipWriter zip("archive");
  zip.add("data.pkl", pickled.pickle);
  for (size_t i = 0; i < pickled.storages.size(); ++i) zip.add("data/" + std::to_string(i), *pickled.storages[i]);
  return zip.finish();
}

TEST(ModelContainer, DamageBehindValidChecksumsNeverCrashes) {
  for (const Dict& object : {int8_object(), gptq_object(), gptq_object(true)}) {
    Pickled pickled = pickle(object);
    const Bytes original = pickled.pickle;
    int accepted = 0;
    for (size_t at = 0; at < original.size(); ++at) {
      for (const int value : {0, 0x2e, 0x5d, 0x7d, 0xff}) {
        pickled.pickle = original;
        pickled.pickle[at] = static_cast<std::byte>(value);
        accepted += survives([&] { read_all(archive_of(pickled)); });
      }
    }
    EXPECT_GT(accepted, 0) << "letters of names can change";
  }
}

TEST(ModelContainer, BombsAreStopped) {
  rusage before{}, after{};
  ::getrusage(RUSAGE_SELF, &before);
  const Bytes bomb = zlib_compress(Bytes(size_t{300} << 20), 9);  // of 300 KiB
  ::getrusage(RUSAGE_SELF, &before);
  refuse_file(bomb, "unpacks to more than the limit of 268435456 bytes");
  ::getrusage(RUSAGE_SELF, &after);
  EXPECT_LT(after.ru_maxrss - before.ru_maxrss, 800 << 10) << "KiB";
  // A bomb within a bomb is only opened once.
  refuse_file(zlib_compress(zlib_compress(Bytes(size_t{8} << 20), 9), 9), "the zlib stream holds ");
}

TEST(ModelContainer, EmptyShapesMustBeValid) {
  Dict object;
  object.set(text("w"), RawTensor{DType::float32, {0, int64_t{1} << 62}, tensor<float>(DType::float32, {0}, {}).bytes});
  refuse_file(save_torch(object), "size overflows");
  const std::string header = R"({"w":{"dtype":"F32","shape":[0,4611686018427387904,4611686018427387904],"data_offsets":[0,0]}})";
  Bytes file(8);
  const uint64_t size = header.size();
  std::memcpy(file.data(), &size, sizeof size);
  const Bytes text = to_bytes(header);
  file.insert(file.end(), text.begin(), text.end());
  refuse_file(file, "do not match");
}

}  // namespace
}  // namespace pgolf
