// Where a checksum or a length would stop everything at the door, a target puts it right and changes what is behind: `pickle`,
// `safetensors_header`, `stream`.
#include "targets.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstring>
#include <string_view>

#include "pgolf/artifact/code_format.h"
#include "pgolf/artifact/codec.h"
#include "pgolf/artifact/contents.h"
#include "pgolf/artifact/model_container.h"
#include "pgolf/artifact/pickle.h"
#include "pgolf/artifact/torch_file.h"
#include "pgolf/base/error.h"
#include "pgolf/config/config_file.h"
#include "pgolf/config/train_options.h"
#include "pgolf/data/byte_counts.h"
#include "pgolf/data/shard.h"
#include "pgolf/data/tokenizer.h"
#include "pgolf/data/tokenizer_json.h"
#include "pgolf/prepare/documents.h"
#include "pgolf/run/training_state.h"
#include "serving.h"
#include "support/dataset.h"

namespace pgolf::fuzz {
namespace {

using namespace std::string_view_literals;

const std::string kName = "input";

/// A file in memory that holds the input, for readers that take a path.
class MemoryFile {
 public:
  explicit MemoryFile(BytesView content) : fd_(::memfd_create("input", MFD_CLOEXEC)) {
    const auto written = ::write(fd_, content.data(), content.size());
    if (fd_ < 0 || written != static_cast<ssize_t>(content.size())) std::abort();
  }
  MemoryFile(const MemoryFile&) = delete;
  MemoryFile& operator=(const MemoryFile&) = delete;
  ~MemoryFile() { ::close(fd_); }
  std::string path() const { return "/proc/self/fd/" + std::to_string(fd_); }

 private:
  int fd_;
};

template <class F>
void refusal_allowed(const F& f) {
  try {
    f();
  } catch (const Error& error) {
    if (error.code() == ExitCode::internal) throw;
  }
}

RawTensor tensor(DType dtype, std::vector<int64_t> shape, size_t bytes) {
  return {dtype, std::move(shape), std::make_shared<const Bytes>(bytes, std::byte{1})};
}

Value coded(CodeFormat format) {
  Dict object = write_codes(
      format, {{"kept", tensor(DType::float16, {3}, 6), {}, DType::float32},
               {"rows", tensor(DType::int8, {2, 4}, 8), tensor(DType::float16, {2}, 4), DType::float32, Quantizer::gptq, 6},
               {"count", tensor(DType::int64, {1}, 8), {}, DType::int64}});
  set_artifact_config(&object, {{"NUM_LAYERS", "2"}});
  return object;
}

std::vector<Value> values() {
  const NamedTensors tensors{{"tok_emb.weight", tensor(DType::bfloat16, {4, 2}, 16)},
                             {"blocks.0.gain", tensor(DType::float32, {2}, 8)}};
  return {state_dict_value(tensors, {"", "tok_emb"}, {{"ROPE_DIMS", "16"}}), coded(CodeFormat::int8_clean_per_row_v1),
          coded(CodeFormat::gptq), coded(CodeFormat::gptq_types)};
}

/// With 64 bytes of data.
Bytes safetensors_file(BytesView header) {
  const uint64_t length = header.size();
  Bytes file(sizeof length + header.size() + 64);
  std::memcpy(file.data(), &length, sizeof length);
  std::copy(header.begin(), header.end(), file.begin() + sizeof length);
  return file;
}

void use_model(const ModelContainer& container) {
  list_contents(container, kName);
  if (const auto* value = std::get_if<Value>(&container.content)) {
    if (code_format_in(*value) != CodeFormat::none) {
      read_codes(value->as_dict(kName), kName);
    } else {
      as_named_tensors(*value, kName);
      state_dict_config(*value, kName);
    }
  } else {
    safetensors_config(std::get<Safetensors>(container.content).metadata, kName);
  }
}

// shard

void read_shard(BytesView input) {
  const MemoryFile file(input);
  refusal_allowed([&] {
    const Shard shard(file.path());
    shard.check_token_range(1024, 0, shard.tokens().size());
  });
}

std::vector<Bytes> shard_seeds() {
  std::vector<Bytes> seeds;
  for (const auto& path : find_shards(testing::Dataset::get().val_files())) seeds.push_back(read_bytes(path));
  return seeds;
}

// model: any container; pickle: data.pkl; stream: a compressed stream's content; safetensors_header

void read_model(BytesView input) {
  refusal_allowed([&] { use_model(parse_model_container(input, kName)); });
}

std::vector<Bytes> model_seeds() {
  std::vector<Bytes> seeds;
  for (const Value& value : values()) seeds.push_back(save_torch(value));
  const size_t archives = seeds.size();
  for (size_t i = 0; i < archives; ++i) {
    const Bytes archive = seeds[i];
    for (const Codec codec : {Codec::zlib, Codec::lzma, Codec::brotli}) seeds.push_back(compress(codec, archive));
  }
  const Bytes safetensors = safetensors_file(bytes_of(R"({"a":{"dtype":"F32","shape":[2,8],"data_offsets":[0,64]}})"));
  seeds.push_back(safetensors);
  seeds.push_back(compress(Codec::zlib, safetensors));
  return seeds;
}

void read_pickle(BytesView input) {
  const auto storages = [](const std::string&) { return std::make_shared<const Bytes>(16, std::byte{1}); };
  refusal_allowed([&] {
    ModelContainer container;
    container.content = unpickle(input, kName, storages);
    use_model(container);
  });
}

/// Of torch.save in protocols 2 and 5, for {"state_dict": OrderedDict(w=torch.zeros(4)), "args": Namespace(a=1), "optim": {0:
/// (1,)}, "set": {1}, "raw": b"x", "big": 2**70, "t": torch.float32}, and the same tuple once more.
constexpr std::string_view trainers_pickles[] = {
    "\200\002}q\000(X\012\000\000\000state_dictq\001ccollections\012OrderedDict\012q\002)Rq\003X\001\000\000\000wq\004ctorch._"
    "utils\012_rebuild_tensor_v2\012q\005((X\007\000\000\000storageq\006ctorch\012FloatStorage\012q\007X\001\000\000\0000q\010"
    "X\003\000\000\000cpuq\011K\004tq\012QK\000K\004\205q\013K\001\205q\014\211h\002)Rq\015tq\016Rq\017sX\004\000\000\000argsq"
    "\020cargparse\012Namespace\012q\021)\201q\022}q\023X\001\000\000\000aq\024K\001sbX\005\000\000\000optimq\025}q\026K\000K"
    "\001\205q\027sX\003\000\000\000setq\030c__builtin__\012set\012q\031]q\032K\001a\205q\033Rq\034X\003\000\000\000rawq\035c_"
    "codecs\012encode\012q\036X\001\000\000\000xq\037X\006\000\000\000latin1q \206q!Rq\042X\003\000\000\000bigq#\212\011\000"
    "\000\000\000\000\000\000\000@X\001\000\000\000tq$ctorch\012float32\012q%X\005\000\000\000againq&h\027u."sv,
    "\200\005\225-\001\000\000\000\000\000\000}\224(\214\012state_dict\224\214\013collections\224\214\013OrderedDict\224\223"
    "\224)R\224\214\001w\224\214\014torch._utils\224\214\022_rebuild_tensor_v2\224\223\224((\214\007storage\224\214\005torch"
    "\224\214\014FloatStorage\224\223\224\214\0010\224\214\003cpu\224K\004t\224QK\000K\004\205\224K\001\205\224\211h\004)R\224"
    "t\224R\224s\214\004args\224\214\010argparse\224\214\011Namespace\224\223\224)\201\224}\224\214\001a\224K\001sb\214\005opt"
    "im\224}\224K\000K\001\205\224s\214\003set\224\217\224(K\001\220\214\003raw\224C\001x\224\214\003big\224\212\011\000\000"
    "\000\000\000\000\000\000@\214\001t\224\214\005torch\224\214\007float32\224\223\224\214\005again\224h\037u."sv,
};

std::vector<Bytes> pickle_seeds() {
  std::vector<Bytes> seeds;
  for (const Value& value : values()) seeds.push_back(pickle(value).pickle);
  for (const std::string_view recorded : trainers_pickles) seeds.push_back(bytes_of(recorded));
  return seeds;
}

void read_stream(BytesView input) {
  if (input.empty()) return;
  constexpr Codec kinds[] = {Codec::zlib, Codec::lzma, Codec::brotli};
  const Codec codec = kinds[std::to_integer<size_t>(input[0]) % std::size(kinds)];
  constexpr size_t most = 1 << 16;
  refusal_allowed([&] { decompress(codec, input.subspan(1), most, kName); });
}

std::vector<Bytes> stream_seeds() {
  std::vector<Bytes> seeds;
  const Bytes content = save_torch(values()[0]);
  for (int i = 0; i < 3; ++i) {
    Bytes seed{static_cast<std::byte>(i)};
    const Bytes stream = compress(i == 0 ? Codec::zlib : i == 1 ? Codec::lzma : Codec::brotli, content);
    seed.insert(seed.end(), stream.begin(), stream.end());
    seeds.push_back(std::move(seed));
  }
  return seeds;
}

void read_safetensors_header(BytesView input) {
  read_model(safetensors_file(input));
}

std::vector<Bytes> safetensors_seeds() {
  return {
      bytes_of(R"({"__metadata__":{"format":"pt"},"a":{"dtype":"F32","shape":[2,4],"data_offsets":[0,32]},)"
               R"("b":{"dtype":"BF16","shape":[16],"data_offsets":[32,64]}})"),
      bytes_of(R"({"a":{"dtype":"I64","shape":[],"data_offsets":[0,8]},"b":{"dtype":"U8","shape":[56],"data_offsets":[8,64]}})")};
}

// tokenizer

void read_tokenizer(BytesView input) {
  refusal_allowed([&] {
    const Tokenizer tokenizer(text_of(input), "input.model");
    const auto ids = tokenizer.encode("the river, 42 caf\u00e9\n");
    tokenizer.decode(ids);
    const ByteCounts counts(tokenizer, tokenizer.vocab_size());
    tokenizer_json(tokenizer);
  });
}

std::vector<Bytes> tokenizer_seeds() {
  return {read_bytes(testing::Dataset::get().tokenizer_path())};
}

// documents

/// A link with the suffix that the reader wants to a file in memory.
void read_documents(BytesView input) {
  static const testing::TempFolder folder;
  static const auto path = folder / "input.jsonl";
  static const int fd = [] {
    const int file = ::memfd_create("input", MFD_CLOEXEC);
    std::filesystem::create_symlink("/proc/self/fd/" + std::to_string(file), path);
    return file;
  }();
  if (::ftruncate(fd, 0) != 0 || ::pwrite(fd, input.data(), input.size(), 0) != static_cast<ssize_t>(input.size())) std::abort();
  refusal_allowed([&] {
    DocumentReader reader({path});
    for (std::string text; reader.next(text);) {
    }
  });
}

std::vector<Bytes> documents_seeds() {
  return {bytes_of("{\"text\": \"one\"}\n\n{\"id\": 3, \"text\": \"two \\u20ac \\ud83d\\ude00\"}\r\n{\"text\": \"\"}"),
          bytes_of("{\"text\":\"a\",\"meta\":{\"score\":-1.5e3,\"tags\":[null,true,\"x\"]}}\n")};
}

// config: a file of KEY=VALUE lines

void read_config(BytesView input) {
  refusal_allowed([&] { parse_config_text(text_of(input), "input.env"); });
}

std::vector<Bytes> config_seeds() {
  return {bytes_of("ROPE_DIMS=16\n# comment\nNUM_LAYERS = 9 # nine\nOUT_DIR=\"a b\\n\"\n"),
          bytes_of("\xef\xbb\xbf"
                   "CONTROL_TENSOR_NAME_PATTERNS='a,b'\nMATRIX_LR=1e-3\n")};
}

// option: NAME=VALUE, as train_gpt takes it from the environment

void read_option(BytesView input) {
  const std::string_view text = text_of(input);
  const size_t equals = std::min(text.find('='), text.size());
  const Environment environment{
      {std::string(text.substr(0, equals)), std::string(text.substr(std::min(equals + 1, text.size())))}};
  const char* const arguments[] = {"train_gpt"};
  refusal_allowed([&] { resolve_train_command(1, arguments, environment); });
}

std::vector<Bytes> option_seeds() {
  return {bytes_of("ROPE_DIMS=16"),    bytes_of("ROPE_LAYERS=full*3,none"), bytes_of("MLP_MULT=4.0625"),
          bytes_of("VE_LAYERS=0,1"),   bytes_of("ROPE_FRACTION=0.25"),      bytes_of("MATRIX_LR=1e-3"),
          bytes_of("LOADER=shuffled"), bytes_of("SEED=4294967295"),         bytes_of("WARMDOWN_FRAC=none"),
          bytes_of("RUN_ID=a.b-c_1")};
}

// training_state: the JSON in a training checkpoint; the rest of it is safetensors

void read_training_state(BytesView input) {
  refusal_allowed([&] {
    const std::string text = training_state_text(parse_training_state(std::string(text_of(input)), kName));
    if (training_state_text(parse_training_state(text, kName)) != text) std::abort();
  });
}

std::vector<Bytes> training_state_seeds() {
  TrainingState state;
  state.step = 400;
  state.loader_position = int64_t{1} << 40;
  state.best_val_loss = 2.625;
  state.config = {{"ROPE_DIMS", "16"}, {"RUN_ID", "a"}};
  state.model = {{"NUM_LAYERS", "9"}};
  state.data = {{"first", "abc"}};
  state.arithmetic = {{"dtype", "float32"}};
  return {bytes_of(training_state_text({})), bytes_of(training_state_text(state))};
}

constexpr Target kTargets[] = {{"shard", read_shard, shard_seeds},
                               {"model", read_model, model_seeds},
                               {"pickle", read_pickle, pickle_seeds},
                               {"stream", read_stream, stream_seeds},
                               {"safetensors_header", read_safetensors_header, safetensors_seeds},
                               {"tokenizer", read_tokenizer, tokenizer_seeds},
                               {"documents", read_documents, documents_seeds},
                               {"config", read_config, config_seeds},
                               {"option", read_option, option_seeds},
                               {"training_state", read_training_state, training_state_seeds},
                               {"request", read_request, request_seeds},
                               {"http", read_http, http_seeds}};

}  // namespace

std::span<const Target> targets() {
  return kTargets;
}

const Target* find_target(std::string_view name) {
  for (const Target& target : kTargets) {
    if (target.name == name) return &target;
  }
  return nullptr;
}

}  // namespace pgolf::fuzz
