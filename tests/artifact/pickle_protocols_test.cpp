// Pickle protocols 2 to 5, and values that are not read.
#include <gtest/gtest.h>

#include <random>

#include "pickle_support.h"

namespace pgolf {
namespace {

using namespace std::string_view_literals;
using namespace artifact_test;

Value read_whole(std::string_view pickle) {
  return unpickle(to_bytes(pickle), "f.pt", six_floats);
}

/// As if the pickle were of protocol 4; the checks do not depend on it.
std::string short_text(const std::string& text) {
  return "\x8c" + std::string(1, static_cast<char>(text.size())) + text;
}
std::string stack_global(const std::string& module, const std::string& attribute) {
  return short_text(module) + short_text(attribute) + "\x93";
}
std::string eight_bytes(uint64_t value) {
  std::string out;
  for (int i = 0; i < 8; ++i) out += static_cast<char>(value >> (8 * i));
  return out;
}

void expect_opaque(const Value& value, std::string_view what) {
  const Opaque* opaque = value.get_if<Opaque>();
  ASSERT_NE(opaque, nullptr) << what << " is read as " << value.type_name();
  EXPECT_EQ(*opaque->what, what);
  EXPECT_EQ(value.type_name(), what);
}

// ---- recorded from Python 3.11's pickle.dumps(object, PROTOCOL)

constexpr std::string_view plain_objects[] = {
    "\200\002}q\000(X\004\000\000\000noneq\001NX\005\000\000\000boolsq\002]q\003(\210\211eX\004\000\000\000intsq\004]q\005("
    "K\000K\377M\377\377J\377\377\377\377\212\005\000\000\000\200\000\212\010\000\000\000\000\000\000\000\300eX\006\000\000\000fl"
    "oatsq\006G\077\340\000\000\000\000\000\000G\3767\344<\210\000u\234\206q\007X\006\000\000\000tuplesq\010]q\011()K\001\205q"
    "\012K\001K\002\206q\013K\001K\002K\003\207q\014(K\001K\002K\003K\004tq\015eX\001\000\000\000uq\016X\002\000\000\000\303\251q"
    "\017X\004\000\000\000longq\020X\003\000\000\000xxxq\021X\004\000\000\000sameq\022]q\023(X\005\000\000\000againq\024h\024eu"
    "."sv,
    "\200\003}q\000(X\004\000\000\000noneq\001NX\005\000\000\000boolsq\002]q\003(\210\211eX\004\000\000\000intsq\004]q\005("
    "K\000K\377M\377\377J\377\377\377\377\212\005\000\000\000\200\000\212\010\000\000\000\000\000\000\000\300eX\006\000\000\000fl"
    "oatsq\006G\077\340\000\000\000\000\000\000G\3767\344<\210\000u\234\206q\007X\006\000\000\000tuplesq\010]q\011()K\001\205q"
    "\012K\001K\002\206q\013K\001K\002K\003\207q\014(K\001K\002K\003K\004tq\015eX\001\000\000\000uq\016X\002\000\000\000\303\251q"
    "\017X\004\000\000\000longq\020X\003\000\000\000xxxq\021X\004\000\000\000sameq\022]q\023(X\005\000\000\000againq\024h\024eu"
    "."sv,
    "\200\004\225\266\000\000\000\000\000\000\000}\224(\214\004none\224N\214\005bools\224]\224(\210\211e\214\004ints\224]\224("
    "K\000K\377M\377\377J\377\377\377\377\212\005\000\000\000\200\000\212\010\000\000\000\000\000\000\000\300e\214\006floats\224"
    "G\077\340\000\000\000\000\000\000G\3767\344<\210\000u\234\206\224\214\006tuples\224]\224()K\001\205\224K\001K\002\206\224"
    "K\001K\002K\003\207\224(K\001K\002K\003K\004t\224e\214\001u\224\214\002\303\251\224\214\004long\224\214\003xxx\224\214\004sa"
    "me\224]\224(\214\005again\224h\024eu."sv,
    "\200\005\225\266\000\000\000\000\000\000\000}\224(\214\004none\224N\214\005bools\224]\224(\210\211e\214\004ints\224]\224("
    "K\000K\377M\377\377J\377\377\377\377\212\005\000\000\000\200\000\212\010\000\000\000\000\000\000\000\300e\214\006floats\224"
    "G\077\340\000\000\000\000\000\000G\3767\344<\210\000u\234\206\224\214\006tuples\224]\224()K\001\205\224K\001K\002\206\224"
    "K\001K\002K\003\207\224(K\001K\002K\003K\004t\224e\214\001u\224\214\002\303\251\224\214\004long\224\214\003xxx\224\214\004sa"
    "me\224]\224(\214\005again\224h\024eu."sv,
};

TEST(PickleProtocols, PlainObjectsAreEqualInAll) {
  for (const std::string_view recorded : plain_objects) {
    const Value value = read_whole(recorded);
    EXPECT_EQ(pickle(value).pickle, to_bytes(plain_objects[0]));
    EXPECT_EQ(value.as_dict("x").find("ints")->get_if<List>()->items[5].as_int("x"), -(int64_t{1} << 62));
  }
}

struct Recorded {
  const char* what;
  std::string_view pickle;
};

/// argparse.Namespace(a=1, b=[2]), numpy.float64(2.5), ...: each in protocol 2 and 5.
constexpr Recorded opaque_objects[] = {
    {"argparse.Namespace",
     "\200\002cargparse\012Namespace\012q\000)\201q\001}q\002(X\001\000\000\000aq\003K\001X\001\000\000\000bq\004]q\005K\002aub"
     "."sv},
    {"argparse.Namespace",
     "\200\005\2251\000\000\000\000\000\000\000\214\010argparse\224\214\011Namespace\224\223\224)\201\224}\224(\214\001a\224"
     "K\001\214\001b\224]\224K\002aub."sv},
    {"pathlib.PurePosixPath",
     "\200\002cpathlib\012PurePosixPath\012q\000X\001\000\000\000/q\001X\001\000\000\000aq\002X\001\000\000\000bq\003\207q\004R"
     "q\005."sv},
    {"pathlib.PurePosixPath",
     "\200\005\225-\000\000\000\000\000\000\000\214\007pathlib\224\214\015PurePosixPath\224\223\224\214\001/\224\214\001a\224\214"
     "\001b\224\207\224R\224."sv},
    {"numpy._core.multiarray.scalar",
     "\200\002cnumpy._core.multiarray\012scalar\012q\000cnumpy\012dtype\012q\001X\002\000\000\000f8q\002\211\210\207q\003Rq\004("
     "K\003X\001\000\000\000<q\005NNNJ\377\377\377\377J\377\377\377\377K\000tq\006bc_codecs\012encode\012q\007X\010\000\000\000"
     "\000\000\000\000\000\000\004@q\010X\006\000\000\000latin1q\011\206q\012Rq\013\206q\014Rq\015."sv},
    {"numpy._core.multiarray.scalar",
     "\200\005\225j\000\000\000\000\000\000\000\214\026numpy._core.multiarray\224\214\006scalar\224\223\224\214\005numpy\224\214"
     "\005dtype\224\223\224\214\002f8\224\211\210\207\224R\224(K\003\214\001<"
     "\224NNNJ\377\377\377\377J\377\377\377\377K\000t\224bC"
     "\010\000\000\000\000\000\000\004@\224\206\224R\224."sv},
    {"numpy._core.numeric._frombuffer",
     "\200\005\225\204\000\000\000\000\000\000\000\214\023numpy._core.numeric\224\214\013_frombuffer\224\223\224(\226\020\000\000"
     "\000\000\000\000\000\000\000\000\000\000\000\000\000\001\000\000\000\000\000\000\000\224\214\005numpy\224\214\005dtype\224"
     "\223\224\214\002i8\224\211\210\207\224R\224(K\003\214\001<\224NNNJ\377\377\377\377J\377\377\377\377K\000t\224bK\002\205\224"
     "\214\001C\224t\224R\224."sv},
    {"collections.defaultdict",
     "\200\002ccollections\012defaultdict\012q\000c__builtin__\012list\012q\001\205q\002Rq\003X\001\000\000\000aq\004]"
     "q\005K\001as"
     "."sv},
    {"collections.defaultdict",
     "\200\005\225A\000\000\000\000\000\000\000\214\013collections\224\214\013defaultdict\224\223\224\214\010builtins\224\214\004"
     "li"
     "st\224\223\224\205\224R\224\214\001a\224]\224K\001as."sv},
    {"__builtin__.set", "\200\002c__builtin__\012set\012q\000]q\001(K\001K\002e\205q\002Rq\003."sv},
    {"set", "\200\005\225\011\000\000\000\000\000\000\000\217\224(K\001K\002\220."sv},
    {"frozenset", "\200\005\225\006\000\000\000\000\000\000\000(K\001\221\224."sv},
    {"_codecs.encode",
     "\200\002c_codecs\012encode\012q\000X\002\000\000\000abq\001X\006\000\000\000latin1q\002\206q\003Rq\004."sv},
    {"bytes", "\200\005\225\006\000\000\000\000\000\000\000C\002ab\224."sv},
    {"bytes", "\200\005\225\015\000\000\000\000\000\000\000\226\002\000\000\000\000\000\000\000ab\224."sv},
    {"torch.float32", "\200\002ctorch\012float32\012q\000."sv},
    {"torch.float32", "\200\005\225\025\000\000\000\000\000\000\000\214\005torch\224\214\007float32\224\223\224."sv},
    {"torch.device", "\200\002ctorch\012device\012q\000X\003\000\000\000cpuq\001\205q\002Rq\003."sv},
    {"int of more than 64 bits", "\200\002\212\011\000\000\000\000\000\000\000\000@."sv},
};

TEST(PickleProtocols, ObjectsOfOtherClassesAreOnlyNamed) {
  for (const Recorded& recorded : opaque_objects) expect_opaque(read_whole(recorded.pickle), recorded.what);
  expect_bad_input([] { read_whole(opaque_objects[0].pickle).as_dict("f.pt: args"); },
                   "f.pt: args has type argparse.Namespace; expected dict");
  EXPECT_THROW(pickle(read_whole(opaque_objects[0].pickle)), std::logic_error);
}

TEST(PickleProtocols, ATupleThatContainsItself) {
  const Value value = read_whole("\200\004\225\013\000\000\000\000\000\000\000]\224h\000\205\224a0h\001."sv);
  expect_opaque(value, "another entry's container");
}

// ---- by hand

TEST(PickleProtocols, NothingIsEverCalled) {
  expect_opaque(read("cos\nsystem\n" + unicode("echo") + "\x85R."), "os.system");
  for (const std::string module_and_name : {"builtins\neval", "posix\nsystem", "torch\nload", "torch._utils\n_rebuild_tensor_v3",
                                            "torch\nUntypedStorage", "collections OrderedDict\n", "\n"}) {
    EXPECT_NE(read("c" + module_and_name + "\n.").get_if<Opaque>(), nullptr) << module_and_name;
  }
  // Names for the terminal.
  expect_bad_input([] { read("c\x1b[2J\nx\n.").as_dict("f.pt"); }, "f.pt has type ?[2J.x; expected dict");
}

TEST(PickleProtocols, WhateverIsDoneToAnOpaqueValueLeavesIt) {
  const std::string object = "ca\nB\n)\x81";
  for (const std::string& use :
       {std::string("}b"), std::string("NNs"), "(NNu" + std::string(), std::string("Na"), std::string("(NNe"),
        std::string("(N\x90"), std::string(")\x81"), std::string(")}\x92"), std::string(")R")}) {
    expect_opaque(read(object + use + "."), "a.B");
  }
  refuse("N)\x81.", "not a class");
  refuse("ccollections\nOrderedDict\n)\x81.", "not a class");
  refuse("](N\x90.", "not a set");
  refuse("\x90.", "never opened");
  refuse("\x91.", "never opened");
  refuse("}(Nu.", "without a value");
  refuse(object + "(Nu.", "without a value");
}

TEST(PickleProtocols, WholeNumbersBecomeKeysInDigits) {
  const Value value =
      read("}(" + small(0) + unicode("a") + "J\xfe\xff\xff\xff" + unicode("b") + unicode("k") + unicode("c") + "u.");
  const Dict& dict = value.as_dict("x");
  ASSERT_EQ(dict.size(), 3u);
  EXPECT_EQ(dict.find("0")->as_text("x"), "a");
  EXPECT_EQ(dict.find("-2")->as_text("x"), "b");
  EXPECT_EQ(dict.find("k")->as_text("x"), "c");
  refuse("}(" + small(7) + "N" + unicode("7") + "Nu.", "duplicate dict key \"7\"");
}

TEST(PickleProtocols, DictsWithOtherKeysAreOpaque) {
  const std::string what = "dict with keys that are neither strings nor whole numbers";
  for (const std::string key : {"N", "\x88", ")", "]", "ca\nB\n", "G\1\2\3\4\5\6\7\1", "ctorch\nFloatStorage\n"}) {
    expect_opaque(read("}" + key + "Ns."), what);
    expect_opaque(read("}(" + unicode("a") + "N" + key + "N" + unicode("b") + "Nu."), what);
  }
  // The dict around it is read.
  const Value outer = read("}(" + unicode("a") + "}NNs" + unicode("b") + small(1) + "u.");
  EXPECT_EQ(outer.as_dict("x").find("b")->as_int("x"), 1);
  expect_opaque(*outer.as_dict("x").find("a"), what);
}

TEST(PickleProtocols, ContainersAreReadOnlyWhereTheyComeFirst) {
  const Value list = read("](]q\1h\1}q\2h\2K\1\x85q\3h\3e.");
  const auto& items = list.get_if<List>()->items;
  ASSERT_EQ(items.size(), 6u);
  EXPECT_NE(items[0].get_if<List>(), nullptr);
  EXPECT_NE(items[2].get_if<Dict>(), nullptr);
  EXPECT_NE(items[4].get_if<Tuple>(), nullptr);
  for (const size_t again : {1, 3, 5}) expect_opaque(items[again], "another entry's container");
  expect_opaque(read("]q\1(h\1e.").get_if<List>()->items.at(0), "another entry's container");
  expect_opaque(*read("}q\1" + unicode("a") + "h\1s.").as_dict("x").find("a"), "another entry's container");
}

TEST(PickleProtocols, ClassesAndStoragesAreOpaqueAsValues) {
  const Value list = read("](ctorch\nFloatStorage\nccollections\nOrderedDict\n" + storage() + storage() + "\x85" + "e.");
  const auto& items = list.get_if<List>()->items;
  ASSERT_EQ(items.size(), 4u);
  expect_opaque(items[0], "class");
  expect_opaque(items[1], "class");
  expect_opaque(items[2], "storage");
  expect_opaque(items[3], "tuple");
  expect_opaque(read(storage() + "."), "storage");
}

TEST(PickleProtocols, TensorsOfOtherDtypesAreOpaqueAndTakeNoMemory) {
  // Storage "7" does not exist: it is not opened.
  const std::string complex = storage("ComplexFloatStorage", "7", big(int64_t{1} << 60));
  expect_opaque(read(complex + "."), "torch.ComplexFloatStorage");
  const std::string tensor = rebuild(small(0), pair(2, 3), pair(3, 1), complex);
  expect_opaque(read(tensor + "."), "torch.ComplexFloatStorage");
  expect_opaque(read("ctorch._utils\n_rebuild_parameter\n(" + tensor + "\x88" + no_hooks + "tR."), "torch.ComplexFloatStorage");
  expect_opaque(read("ctorch._utils\n_rebuild_tensor_v3\n(" + storage() + "tR."), "torch._utils._rebuild_tensor_v3");
}

TEST(PickleProtocols, ClassesFromTheStack) {
  const Value value = read(stack_global("collections", "OrderedDict") + ")R" + stack_global("torch", "x") + "0.");
  EXPECT_TRUE(value.as_dict("x").ordered());
  expect_opaque(read(stack_global("collections OrderedDict", "") + "."), "collections OrderedDict.");
  refuse("NN\x93.", "not a string");
  refuse(short_text("a") + "\x93.", "missing object");
  refuse(short_text("a") + "X\xc9" + zeros(3) + std::string(201, 'a') + "\x93.", "too long");
}

TEST(PickleProtocols, MemoizeNumbersLikePython) {
  const Value value = read("](" + short_text("a") + "\x94" + short_text("b") + "\x94h\1h" + zeros(1) + "e.");
  const auto& items = value.get_if<List>()->items;
  EXPECT_EQ(items.at(2).as_text("x"), "b");
  EXPECT_EQ(items.at(3).as_text("x"), "a");
  refuse("\x94.", "missing object");
  refuse("N" + std::string(1'000'000, '\x94') + ".", "more than 1000000 objects");
}

TEST(PickleProtocols, LengthsAreCheckedFirst) {
  for (const std::string& code :
       {"\x95" + eight_bytes(UINT64_MAX), "\x95" + eight_bytes(2), "\x8d" + eight_bytes(UINT64_MAX) + "abc",
        "\x8e" + eight_bytes(uint64_t{1} << 62) + "abc", "\x96" + eight_bytes(4) + "abc", std::string("B\xff\xff\xff\xff"),
        std::string("C\5abc"), std::string("\x8c\4abc"), std::string("\x8b\xff\xff\xff\x7f"), std::string("\x8a\xff"),
        std::string("\x8d\1"), std::string("\x95\1\1")}) {
    refuse(code, "truncated");
  }
  EXPECT_NO_THROW(read("\x95" + eight_bytes(2) + "N."));
  EXPECT_EQ(read("\x8b\2" + zeros(3) + "\xfe\xff.").as_int("x"), -2);
  EXPECT_EQ(read("\x8d" + eight_bytes(2) + "ab.").as_text("x"), "ab");
  refuse("\x8c\1\xff.", "not UTF-8");
}

TEST(PickleProtocols, PopsStayWithinTheirGroup) {
  EXPECT_EQ(read("K\1N0.").as_int("x"), 1);
  EXPECT_EQ(read("K\1(NN1.").as_int("x"), 1);
  refuse("0", "missing object");
  refuse("N(0", "missing object");
  refuse("1", "never opened");
}

TEST(PickleProtocols, LongChainsOfOpaqueValuesAreFlat) {
  std::string keys(100'001, '}');
  for (int i = 0; i < 100'000; ++i) keys += "Ns";  // each dict a key of the one below
  EXPECT_NE(read(keys + ".").get_if<Opaque>(), nullptr);
  std::string objects;
  for (int i = 0; i < 100'000; ++i) objects += "ca\nB\n";
  for (int i = 0; i + 1 < 100'000; ++i) objects += "\x81";
  expect_opaque(read(objects + "."), "a.B");
}

// ---- damage

TEST(PickleProtocols, DamageNeverCrashes) {
  int accepted = damage_everywhere(to_bytes(plain_objects[3]), [](BytesView bytes) { unpickle(bytes, "x", six_floats); });
  for (const Recorded& recorded : opaque_objects)
    accepted += damage_everywhere(to_bytes(recorded.pickle), [](BytesView bytes) { unpickle(bytes, "x", six_floats); });
  EXPECT_GT(accepted, 0);
}

TEST(PickleProtocols, RandomOpcodesNeverCrash) {
  const std::string codes =
      "(.01N\x88\x89JKM\x8a\x8bGX]ae)t\x85\x86\x87}suhjqrcR\x81"
      "bQ\x80"
      "CB\x8e\x96\x8c\x8d\x8f\x90\x91\x92\x93\x94\x95";
  std::mt19937 random(1);
  const auto below = [&](size_t limit) { return static_cast<size_t>(random() % limit); };
  for (const Recorded& recorded : opaque_objects) {
    for (int round = 0; round < 5'000; ++round) {
      Bytes damaged = to_bytes(recorded.pickle);
      for (size_t n = 1 + below(6); n > 0; --n) {
        const auto place = damaged.begin() + static_cast<ptrdiff_t>(below(damaged.size()));
        const auto code = static_cast<std::byte>(codes[below(codes.size())]);
        below(2) == 0 ? void(*place = code) : void(damaged.insert(place, code));
      }
      survives([&] { unpickle(damaged, "x", six_floats); });
    }
  }
}

}  // namespace
}  // namespace pgolf
