#include "pgolf/artifact/pickle.h"

#include <gtest/gtest.h>

#include <random>

#include "pgolf/base/hash.h"
#include "pickle_support.h"

namespace pgolf {
namespace {

using namespace artifact_test;

// ---- writer: recorded from Python 3.11's pickle.dumps(object, 2)

Value integers(const std::vector<int64_t>& numbers) {
  List list;
  for (const int64_t number : numbers) list.items.emplace_back(number);
  return list;
}

TEST(Pickle, WritesEveryKindOfObjectAsPython) {
  Dict object;
  object.set(text("none"), {});
  object.set(text("bools"), List{{true, false}});
  object.set(text("ints"), integers({0, 255, 256, 65535, 65536, -1, 2147483647, 2147483648, -2147483649, 1099511627776,
                                     -549755813888, INT64_MAX, -INT64_MAX - 1}));
  object.set(text("floats"), Tuple{{0.5, -1e300}});
  object.set(text("tuples"), List{{Tuple{}, Tuple{{1}}, Tuple{{1, 2}}, Tuple{{1, 2, 3}}, Tuple{{1, 2, 3, 4}}}});
  object.set(text("lists"), List{{List{}, List{{1}}}});
  object.set(text("Gr\xc3\xb6\xc3\x9f"
                  "e \xf0\x9f\x98\x80"),
             text(""));
  const Text again = text("again");
  object.set(text("same"), List{{again, again}});

  const Bytes bytes = pickle(object).pickle;
  EXPECT_EQ(bytes.size(), 297u);
  EXPECT_EQ(sha256_hex(bytes), "e92afe68fb31481a171df1295ab83bafcef07919d9b65bb180027b7bcd1c8557");
  const Value read_back = unpickle(bytes, "x", six_floats);
  EXPECT_EQ(pickle(read_back).pickle, bytes);
  EXPECT_EQ(read_back.as_dict("x").find("ints")->get_if<List>()->items[12].as_int("x"), -INT64_MAX - 1);
  EXPECT_EQ(*read_back.as_dict("x").find("floats")->get_if<Tuple>()->items[1].get_if<double>(), -1e300);
}

struct BatchCase {
  int size;
  const char *dict, *ordered_dict, *list;
};

TEST(Pickle, WritesLongContainersInPythonsBatches) {
  const BatchCase cases[] = {{0, "ad2598304a8af697d0c335a50a3e5a1ba06c82d9b63ef5f9d3e730b54cf9148a",
                              "f415ed8a5f5414778834b70e68576b4cb1004836b3d1c11c0081e680872fd89e",
                              "a4f82e84e67aa7b6f1c1c917b333fe0fc57973b55e4d42202c8e3c39447bd060"},
                             {1, "74760141ba5169640bace2db62c262969c26f062334c95611ca99a77b4cc536a",
                              "5931d58a69fd81ec9ddfdaa67d3d93c86802838ecd3d34d85cff04148d82a18b",
                              "da118804e50efaf4bdb75566536ff9888d1a9c4ee04b606646255a4f0e525dbe"},
                             {2, "9a4267049dd7f4ac962d488d60f48122b0f9d065249cd2ad190350d13592dbb4",
                              "f853fbeb1e02031eac37533bcbcfb76cd965fdf1fca377c7fbaf81ed195fc454",
                              "1b90926fb83a3f9f5726d7b2a194f7083b48ead587b47eb11f4a84c44fa5ec82"},
                             {999, "081145ed30ae03798817f40757d1aea52d0b12754414bea7fff606c26db8fc60",
                              "806402addea6a6e0f39030e4240d1d4fc602ad52d9102293ca069f1a3008d103",
                              "77a990a7f95c12c9b4b4495499aacbf8871c12468e63e3407e13b955db99a4d8"},
                             {1000, "513481b12f58b1583695566d0050a5c22f53ffb96452ca60dccdba6731e0e24c",
                              "0ba6aa119ab03893255a8b5e362666b8a31077708a94bb36d1e057b8ba0f4633",
                              "8160061a8573613a52de102bdad7dd64796ae8be808c51dd36f821a1b9537ee7"},
                             {1001, "53934fbdfe31e85e7c14d25d171c027e6f297fe53c9f904dfc3763f6c76ea17e",
                              "079da6569d3b831f7e602e8ced596694253b3e6493cbfe036da18d924565d33d",
                              "3dccde61b12502fff1427c86f5bf1d3cd7332c5469c0e676fbc2eabb713979f6"},
                             {2000, "3d6b1982538d37555f2d1484a8e73cad3f6c2b0540343c11285a539714217b9f",
                              "218ed79a3c306e688c5afe84acfe446e8c2f553b026cbb2fd6b41b4e6b4b1309",
                              "9e0c6c0118f48421c1a27a32e4c59cd59e482bc7ce6c7cd1c1efb25e7102eb74"}};
  for (const BatchCase& expected : cases) {
    Dict plain, ordered(/*ordered=*/true);
    List list;
    for (int i = 0; i < expected.size; ++i) {
      plain.set(text("key" + std::to_string(i)), i % 256);
      ordered.set(text("key" + std::to_string(i)), i % 256);
      list.items.emplace_back(i % 256);
    }
    EXPECT_EQ(sha256_hex(pickle(plain).pickle), expected.dict) << expected.size;
    EXPECT_EQ(sha256_hex(pickle(ordered).pickle), expected.ordered_dict) << expected.size;
    EXPECT_EQ(sha256_hex(pickle(list).pickle), expected.list) << expected.size;
    EXPECT_EQ(pickle(unpickle(pickle(plain).pickle, "x", six_floats)).pickle, pickle(plain).pickle);
  }
}

TEST(Pickle, SharedBytesBecomeOneStorage) {
  const RawTensor flat = tensor<float>(DType::float32, {6}, {0, 1, 2, 3, 4, 5});
  const RawTensor matrix{DType::float32, {2, 3}, flat.bytes};
  EXPECT_EQ(pickle(List{{flat, matrix}}).storages.size(), 1u);
  EXPECT_EQ(pickle(List{{flat, tensor<float>(DType::float32, {6}, {0, 1, 2, 3, 4, 5})}}).storages.size(), 2u);
  EXPECT_THROW(pickle(List{{flat, RawTensor{DType::int32, {6}, flat.bytes}}}), std::logic_error);
}

// ---- reader: what it accepts

TEST(Unpickle, Tensors) {
  const Value value = read(rebuild(small(0), pair(2, 3), pair(3, 1)) + ".");
  const RawTensor& matrix = value.as_tensor("x");
  EXPECT_EQ(matrix.shape, (std::vector<int64_t>{2, 3}));
  EXPECT_EQ(values<float>(matrix), (std::vector<float>{0, 1, 2, 3, 4, 5}));

  const auto floats = [](const std::string& body) { return values<float>(read(body + ".").as_tensor("x")); };
  EXPECT_EQ(floats(rebuild(small(0), pair(3, 2), pair(1, 3))), (std::vector<float>{0, 3, 1, 4, 2, 5}));    // transposed
  EXPECT_EQ(floats(rebuild(small(1), pair(2, 2), pair(3, 1))), (std::vector<float>{1, 2, 4, 5}));          // a block
  EXPECT_EQ(floats(rebuild(small(4), small(2) + "\x85", small(1) + "\x85")), (std::vector<float>{4, 5}));  // a slice
  EXPECT_EQ(floats(rebuild(small(5), ")", ")")), (std::vector<float>{5}));                                 // a scalar
  EXPECT_EQ(floats(rebuild(small(6), pair(0, 3), pair(3, 1))), (std::vector<float>{}));
  // The stride of a dimension of size one is irrelevant.
  EXPECT_EQ(floats(rebuild(small(4), small(1) + small(2) + "\x86", big(INT64_MAX) + small(1) + "\x86")),
            (std::vector<float>{4, 5}));
}

TEST(Unpickle, ParametersAndAttributes) {
  const Value parameter =
      read("ctorch._utils\n_rebuild_parameter\n(" + rebuild(small(0), pair(2, 3), pair(3, 1)) + "\x88" + no_hooks + "tR.");
  EXPECT_EQ(parameter.as_tensor("x").numel(), 6);
  const Value dict = read(no_hooks + "}" + unicode("_metadata") + "}sb.");
  EXPECT_TRUE(dict.as_dict("x").ordered());
  EXPECT_NE(dict.as_dict("x").find_attribute("_metadata"), nullptr);
  EXPECT_EQ(dict.as_dict("x").find_attribute("other"), nullptr);
}

TEST(Unpickle, StringsKeepTheirIdentity) {
  const Value value = read("](" + unicode("a") + "q\1" + unicode("a") + "q\2h\1j\2" + zeros(3) + "e.");
  const auto& items = value.get_if<List>()->items;
  const auto object = [&](size_t i) { return items[i].get_if<Text>()->get(); };
  EXPECT_NE(object(0), object(1));
  EXPECT_EQ(object(0), object(2));
  EXPECT_EQ(object(1), object(3));
}

// ---- reader: what it rejects

TEST(Unpickle, MessagesNameFileOffsetAndCause) {
  refuse("NN\x87.", "f.pt: data.pkl at byte 4: uses a missing object");
}

TEST(Unpickle, NamesHaveALimitOfLength) {
  refuse("c" + std::string(300, 'a') + "\nb\n.", "too long or truncated");
  refuse("ctorch\nFloat", "too long or truncated");
}

TEST(Unpickle, ForeignOpcodes) {
  // INST, OBJ, EXT1, PERSID, DUP, out-of-band buffers and those of protocols 0 and 1.
  for (const char* code : {"i", "o", "\x82", "\x83", "\x84", "P", "2", "d",    "l",    "p",   "g",
                           "S", "I", "F",    "L",    "V",    "T", "U", "\x97", "\x98", "\xff"}) {
    refuse(code, "not supported");
  }
}

TEST(Unpickle, Framing) {
  expect_bad_input([] { unpickle({}, "f.pt", six_floats); }, "truncated");
  expect_bad_input([] { unpickle(to_bytes("N."), "f.pt", six_floats); }, "does not start like");
  for (const std::string protocol : {"\x01", "\x06", "\xff"})
    expect_bad_input([&] { unpickle(to_bytes("\x80" + protocol + "N."), "f.pt", six_floats); }, "2 to 5 are supported");
  refuse("\x80\x02N.", "does not start like");
  refuse("N", "truncated");
  refuse(".", "incomplete");
  refuse("NN.", "incomplete");
  refuse("(N.", "incomplete");
  refuse("N..", "after its end mark");
  expect_bad_input([] { unpickle(Bytes((16 << 20) + 1), "f.pt", six_floats); }, "larger than");
}

TEST(Unpickle, StackAbuse) {
  refuse("a.", "missing object");
  refuse("]a.", "missing object");
  refuse("]s.", "missing object");
  refuse("](a.", "missing object");
  refuse("e.", "never opened");
  refuse("t.", "never opened");
  refuse("\x87.", "missing object");
  refuse("R.", "missing object");
  refuse("b.", "missing object");
  refuse("Q.", "missing object");
  refuse("q\1.", "missing object");
  refuse("NNa.", "not a list");
  refuse("](NNu.", "not a dict");
  refuse("}(Nu.", "without a value");
  refuse("}(" + unicode("k") + "N" + unicode("k") + "Nu.", "duplicate dict key \"k\"");
  refuse("N)R.", "not a function");
  refuse("ctorch\nFloatStorage\n)R.", "not a function");
  refuse("ccollections\nOrderedDict\n" + small(1) + "\x85R.", "with arguments");
  refuse("}}b.", "not an OrderedDict");
  refuse(no_hooks + "Nb.", "not an OrderedDict");
  refuse(no_hooks + "}" + unicode("a") + "Nsb}" + unicode("a") + "Nsb.", "not an OrderedDict");
}

TEST(Unpickle, MemoAbuse) {
  refuse("h\7.", "refers to missing object 7");
  refuse("j\xff\xff\xff\xff.", "refers to missing object 4294967295");
  EXPECT_NO_THROW(read("Nr\xff\xff\xff\xff."));  // costs one entry like any other
}

TEST(Unpickle, SizeAbuse) {
  refuse(
      "X\xff\xff\xff\xff"
      "abc",
      "truncated");
  refuse("\x8a\xff" + std::string(254, 'x'), "truncated");
  EXPECT_EQ(read(std::string("\x8a\0.", 3)).as_int("x"), 0);
  EXPECT_EQ(read("\x8a\1\xff.").as_int("x"), -1);
  refuse(unicode("\xff"), "not UTF-8");
  refuse(unicode("\xc0\x80"), "not UTF-8");
  refuse(unicode("\xed\xa0\x80"), "not UTF-8");
  refuse(unicode("\xf4\x90\x80\x80"), "not UTF-8");
  refuse(unicode("\xe2\x82"), "not UTF-8");
  EXPECT_EQ(read(unicode("\xe2\x82\xac") + ".").as_text("x"), "\xe2\x82\xac");
  refuse(std::string(1'000'001, 'N') + ".", "more than 1000000 objects");
  refuse(std::string(1'000'001, '('), "more than 1000000 objects");
}

TEST(Unpickle, DeepNesting) {
  const auto nested = [](size_t levels) { return std::string(levels, ']') + std::string(levels - 1, 'a') + "."; };
  EXPECT_NO_THROW(read(nested(64)));
  refuse(nested(65), "nested more than 64 levels");
  refuse(nested(400'000), "nested more than 64 levels");
  std::string tuples = "N";
  for (int i = 0; i < 100; ++i) tuples += "\x85";
  refuse(tuples + ".", "nested more than 64 levels");
  std::string attributes = "}";
  for (int i = 0; i < 100; ++i) attributes = no_hooks + "}" + unicode("a") + attributes + "sb";
  refuse(attributes + ".", "nested more than 64 levels");
}

TEST(Unpickle, StorageAbuse) {
  refuse("NQ.", "without its five fields");
  refuse("(" + unicode("module") + "ctorch\nFloatStorage\n" + unicode("0") + unicode("cpu") + small(6) + "tQ.",
         "of the wrong type");
  refuse(storage("FloatStorage", "7") + ".", "no such storage");
  refuse(storage("FloatStorage", "0", small(7)) + ".", "declares storage \"0\" with 7 elements of float32");
  refuse(storage("FloatStorage", "0", small(5)) + ".", "with 5 elements");
  refuse(storage("FloatStorage", "0", big(-6)) + ".", "with -6 elements");
  refuse(storage("DoubleStorage", "0", small(6)) + ".", "with 6 elements of float64");
  const std::string as_float = rebuild(small(0), pair(2, 3), pair(3, 1));
  const std::string as_int = rebuild(small(0), pair(2, 3), pair(3, 1), storage("IntStorage"));
  refuse("](" + as_float + as_int + "e.", "with 6 elements of int32");
}

TEST(Unpickle, TensorAbuse) {
  refuse(rebuild(small(1), pair(2, 3), pair(3, 1)) + ".", "beyond its storage");
  refuse(rebuild(small(6), ")", ")") + ".", "beyond its storage");
  refuse(rebuild(small(7), pair(0, 3), pair(3, 1)) + ".", "beyond its storage");
  refuse(rebuild(small(0), pair(2, 3), pair(4, 1)) + ".", "beyond its storage");
  refuse(rebuild(big(INT64_MAX), pair(2, 3), pair(3, 1)) + ".", "beyond its storage");
  refuse(rebuild(big(-1), pair(2, 3), pair(3, 1)) + ".", "wrong type");
  refuse(rebuild(small(0), big(-2) + big(-3) + "\x86", pair(3, 1)) + ".", "negative");
  refuse(rebuild(small(0), pair(2, 3), big(-3) + small(1) + "\x86") + ".", "negative");
  refuse(rebuild(small(0), pair(100, 100), pair(0, 0)) + ".", "share memory");
  refuse(rebuild(small(0), big(INT64_MAX) + big(INT64_MAX) + "\x86", pair(0, 0)) + ".", "size overflows");
  refuse(rebuild(small(0), pair(3, 3), big(1LL << 62) + small(1) + "\x86") + ".", "beyond its storage");
  refuse(rebuild(small(0), small(2) + big(1LL << 62) + "\x86", big(1LL << 62) + big(4) + "\x86") + ".", "size overflows");
  refuse(rebuild(small(0), big(1LL << 32) + big(1LL << 32) + "\x86", big(1LL << 32) + small(1) + "\x86") + ".", "size overflows");
  refuse(rebuild(small(0), pair(2, 3), small(3) + "\x85") + ".", "different numbers of sizes and strides");
  refuse(rebuild(small(0), "N", "N") + ".", "invalid sizes");
  refuse(rebuild(small(0), "NN\x86", pair(1, 1)) + ".", "non-integer");
  std::string many = "(";
  for (int i = 0; i < 17; ++i) many += small(1);
  refuse(rebuild(small(0), many + "t", many + "t") + ".", "invalid sizes");
  refuse("ctorch._utils\n_rebuild_tensor_v2\n)R.", "without its six arguments");
  refuse("ctorch._utils\n_rebuild_tensor_v2\n(" + storage() + "tR.", "without its six arguments");
  refuse("ctorch._utils\n_rebuild_tensor_v2\n(" + storage() + small(0) + "NNNN}tR.", "resolve_neg()");
  refuse("ctorch._utils\n_rebuild_parameter\n(NNNtR.", "without a tensor");
  refuse(rebuild("N", pair(2, 3), pair(3, 1)) + ".", "wrong type");
}

TEST(Unpickle, ManyViewsOfOneStorageAreRejected) {
  std::string list = "](";
  for (int i = 0; i < 4; ++i) list += rebuild(small(0), pair(3, 2), pair(1, 3));
  EXPECT_NO_THROW(read(list + "e."));
  refuse(list + rebuild(small(0), pair(3, 2), pair(1, 3)) + "e.", "too many overlapping views");
  // The same for one tensor in many places: readers copy each.
  const std::string one = "](" + rebuild(small(0), pair(2, 3), pair(3, 1)) + "q\1";
  EXPECT_NO_THROW(read(one + "h\1h\1h\1e."));
  refuse(one + "h\1h\1h\1h\1e.", "too many overlapping views");
}

TEST(Unpickle, NamesHaveALimit) {
  const auto named = [](char low_byte, size_t length) {  // 0x3e8 bytes and one more
    return "}(X" + std::string{low_byte, '\x03', '\0', '\0'} + std::string(length, 'k') + "Nu.";
  };
  EXPECT_NO_THROW(read(named('\xe8', 1000)));
  refuse(named('\xe9', 1001), "a dict key of 1001 bytes");
}

Bytes sample_pickle() {
  Dict state(/*ordered=*/true), metadata, config;
  state.set(text("a.weight"), RawTensor{DType::float32, {2, 3}, six_floats("0")});
  metadata.set(text(""), 1);
  config.set(text("k"), List{{true, 0.5, 70000, Tuple{{text("x"), {}}}}});
  state.add_attribute(text("_metadata"), metadata);
  state.add_attribute(text("config"), config);
  return pickle(state).pickle;
}

TEST(Unpickle, DamageNeverCrashes) {
  const int accepted = damage_everywhere(sample_pickle(), [](BytesView bytes) { unpickle(bytes, "x", six_floats); });
  EXPECT_GT(accepted, 0);
}

TEST(Unpickle, RandomDamageNeverCrashes) {
  const Bytes original = sample_pickle();
  const std::string codes = "(.N\x88\x89JKM\x8aGX]ae)t\x85\x86\x87}suhjqrcRbQ\x80";
  std::mt19937 random(1);
  const auto below = [&](size_t limit) { return static_cast<size_t>(random() % limit); };
  for (int round = 0; round < 20'000; ++round) {
    Bytes damaged = original;
    for (size_t n = 1 + below(6); n > 0; --n) {
      const size_t at = below(damaged.size());
      const auto place = damaged.begin() + static_cast<ptrdiff_t>(at);
      switch (below(4)) {
        case 0:
          damaged[at] = static_cast<std::byte>(random());
          break;
        case 1:
          damaged[at] = static_cast<std::byte>(codes[below(codes.size())]);
          break;
        case 2:
          damaged.insert(place, static_cast<std::byte>(codes[below(codes.size())]));
          break;
        default:
          damaged.erase(place, place + static_cast<ptrdiff_t>(std::min(below(8), damaged.size() - at)));
      }
      if (damaged.empty()) break;
    }
    survives([&] { unpickle(damaged, "x", six_floats); });
  }
}

}  // namespace
}  // namespace pgolf
