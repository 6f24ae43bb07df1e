// The option mechanism, tested with a small option table.
#include "pgolf/config/options.h"

#include "config_testing.h"

namespace pgolf {
namespace {

using testing::Arguments;
using testing::error_of;
using testing::TemporaryFolder;

enum class Mode { plain, fancy };

struct Settings {
  int count = 3;
  double rate = 0.5;
  double fraction = -1;
  bool loud = false;
  std::string folder = "out";
  std::vector<std::string> names = {"a", "b"};
  Mode mode = Mode::plain;
  std::string input;
  bool dry = false, help = false;
  std::string from;
  std::vector<std::string> extra, files;
};

struct Features {
  bool environment = true, config_files = true, positional = false, required = false;
};

OptionTable make_table(Settings& s, Features features) {
  OptionTable table("demo [options]", "Shows the mechanism.");
  if (features.environment) table.accept_environment();
  if (features.config_files) table.accept_config_files();
  if (features.positional) table.accept_positional(&s.files);
  table.group("Numbers");
  table.add("ITEM_COUNT", bind::integer(&s.count, 1, 100), "items", "How many.", Resume::must_match);
  table.add("RATE", bind::number(&s.rate, {.low = 0, .high = 1, .high_open = true}), "", "How fast.");
  table.add("FRACTION", bind::number_or_none(&s.fraction, {.low = 0}), "", "How much.");
  table.group("Words");
  table.add("LOUD", bind::boolean(&s.loud), "", "Say more.");
  table.add("FOLDER", bind::text(&s.folder), "", "Where to.");
  table.add("NAMES", bind::list(&s.names), "", "Which.");
  table.add("MODE", bind::choice<Mode>(&s.mode, {{"plain", Mode::plain}, {"fancy", Mode::fancy}}), "", "In which way.");
  if (features.required) table.add_required("INPUT", bind::text(&s.input), "", "the file to read");
  table.add_action({.name = "dry-run", .field = &s.dry, .help = "Only look."});
  table.add_action({.name = "from", .field = &s.from, .help = "Start there.", .label = "HERE|PATH", .implied = "here"});
  table.add_action({.name = "also", .field = &s.extra, .help = "One more.", .label = "WORD"});
  table.add_action({.name = "help", .field = &s.help, .help = "This.", .stops = true});
  return table;
}

struct Outcome {
  Settings settings;
  Resolution resolution;
  const ResolvedOption& option(const char* name) const { return find_option(resolution.options, name); }
};

Outcome run(const std::vector<std::string>& arguments, const Environment& environment = {}, Features features = {}) {
  Outcome outcome;
  const Arguments command_line(arguments);
  outcome.resolution = make_table(outcome.settings, features).resolve(command_line.argc(), command_line.argv(), environment);
  return outcome;
}

std::string refused(const std::vector<std::string>& arguments, const Environment& environment = {}, Features features = {}) {
  const auto error = error_of([&] { run(arguments, environment, features); });
  if (!error) return {};
  EXPECT_EQ(error->code(), ExitCode::usage);
  return std::string(error->what()) + " | " + error->hint();
}

TEST(Options, FlagNames) {
  EXPECT_EQ(flag_of("TRAIN_BATCH_TOKENS"), "--train-batch-tokens");
}

TEST(Options, DefaultsAreTheFieldsOwn) {
  const Outcome outcome = run({});
  EXPECT_EQ(outcome.settings.count, 3);
  const std::vector<std::pair<const char*, const char*>> expected = {{"ITEM_COUNT", "3"}, {"RATE", "0.5"},   {"FRACTION", "none"},
                                                                     {"LOUD", "0"},       {"FOLDER", "out"}, {"NAMES", "a,b"},
                                                                     {"MODE", "plain"}};
  for (const auto& [name, text] : expected) {
    EXPECT_EQ(outcome.option(name).text, text);
    EXPECT_EQ(outcome.option(name).origin, "default");
  }
}

TEST(Options, EveryTypeIsStoredAndCanonical) {
  const Outcome outcome = run({"--item-count", "1_0", "--rate=1e-3", "--fraction", "2", "--loud", "yes", "--folder=my folder",
                               "--names", " x ,,y", "--mode", "FANCY"});
  EXPECT_EQ(outcome.settings.count, 10);
  EXPECT_EQ(outcome.settings.rate, 1e-3);
  EXPECT_EQ(outcome.settings.fraction, 2.0);
  EXPECT_TRUE(outcome.settings.loud);
  EXPECT_EQ(outcome.settings.folder, "my folder");
  EXPECT_EQ(outcome.settings.names, (std::vector<std::string>{"x", "y"}));
  EXPECT_EQ(outcome.settings.mode, Mode::fancy);
  const std::vector<std::pair<const char*, const char*>> expected = {{"ITEM_COUNT", "10"}, {"RATE", "0.001"}, {"FRACTION", "2.0"},
                                                                     {"LOUD", "1"},        {"NAMES", "x,y"},  {"MODE", "fancy"}};
  for (const auto& [name, text] : expected) EXPECT_EQ(outcome.option(name).text, text);
  EXPECT_EQ(outcome.option("RATE").origin, "flag --rate");
}

TEST(Options, NoneUnsetsANumber) {
  EXPECT_EQ(run({"--fraction", "none"}).settings.fraction, -1.0);
}

TEST(Options, PrecedenceOfEveryPair) {
  const TemporaryFolder folder;
  const std::string low = folder.write("low.env", "ITEM_COUNT=10\n"),
                    high = folder.write("high.env", "# second\nITEM_COUNT=20\n");
  const Environment environment = {{"ITEM_COUNT", "30"}};
  const std::vector<std::string> flag = {"--item-count", "40"};
  const auto with = [](std::vector<std::string> a, const std::vector<std::string>& b) {
    a.insert(a.end(), b.begin(), b.end());
    return a;
  };
  const std::vector<std::string> file = {"--config", low};
  const auto expect = [](const Outcome& outcome, int count, Source source, const std::string& origin) {
    EXPECT_EQ(outcome.settings.count, count);
    EXPECT_EQ(outcome.option("ITEM_COUNT").source, source);
    EXPECT_EQ(outcome.option("ITEM_COUNT").origin, origin);
  };
  expect(run({}), 3, Source::default_value, "default");
  expect(run(file), 10, Source::config_file, "file " + low + ":1");                                    // file > default
  expect(run({}, environment), 30, Source::environment, "environment ITEM_COUNT");                     // environment > default
  expect(run(flag), 40, Source::flag, "flag --item-count");                                            // flag > default
  expect(run(file, environment), 30, Source::environment, "environment ITEM_COUNT");                   // environment > file
  expect(run(with(file, flag)), 40, Source::flag, "flag --item-count");                                // flag > file
  expect(run(flag, environment), 40, Source::flag, "flag --item-count");                               // flag > environment
  expect(run(with(flag, file), environment), 40, Source::flag, "flag --item-count");                   // all three
  expect(run({"--config", low, "--config=" + high}), 20, Source::config_file, "file " + high + ":2");  // later file > earlier
  expect(run({"--config", high, "--config", low}), 10, Source::config_file, "file " + low + ":1");
}

TEST(Options, ABooleanAloneIsOn) {
  EXPECT_TRUE(run({"--loud"}).settings.loud);
  const Settings before_another = run({"--loud", "--item-count", "5"}).settings;
  EXPECT_TRUE(before_another.loud);
  EXPECT_EQ(before_another.count, 5);
  EXPECT_FALSE(run({"--loud", "off"}).settings.loud);
  EXPECT_CONTAINS(refused({"--loud", "--loud", "off"}), "given twice");
  const Settings before_a_file = run({"--loud", "a.txt"}, {}, {.positional = true}).settings;
  EXPECT_TRUE(before_a_file.loud);
  EXPECT_EQ(before_a_file.files, std::vector<std::string>{"a.txt"});
}

TEST(Options, AnOverriddenValueIsNotChecked) {
  EXPECT_EQ(run({"--item-count=5"}, {{"ITEM_COUNT", "junk"}}).settings.count, 5);
}

TEST(Options, UnreadableAndOutOfRange) {
  EXPECT_CONTAINS(refused({"--item-count=12x"}), "ITEM_COUNT='12x' (flag --item-count) is not an integer from 1 to 100");
  EXPECT_CONTAINS(refused({"--item-count=0"}), "from 1 to 100");
  EXPECT_CONTAINS(refused({"--item-count=101"}), "from 1 to 100");
  EXPECT_CONTAINS(refused({"--item-count=99999999999999999999"}), "from 1 to 100");
  EXPECT_CONTAINS(refused({"--item-count="}), "is empty");
  EXPECT_CONTAINS(refused({"--item-count", ""}), "is empty");
  EXPECT_CONTAINS(refused({}, {{"RATE", "nan"}}), "RATE='nan' (environment RATE) is not a number");
  EXPECT_CONTAINS(refused({"--rate", "inf"}), "is not a number");
  for (const char* text : {"1e999", "-1e999", "1e-999"})
    EXPECT_CONTAINS(refused({"--rate", text}), "is beyond the range of double");
  EXPECT_CONTAINS(refused({"--rate", "1"}), "0 <= x < 1");
  EXPECT_CONTAINS(refused({"--rate", "-0.1"}), "0 <= x < 1");
  EXPECT_CONTAINS(refused({"--loud", "2"}), "is not a boolean");
  EXPECT_CONTAINS(refused({"--mode", "odd"}), "is not one of plain, fancy");
}

TEST(Options, ErrorInAFileNamesTheLine) {
  const TemporaryFolder folder;
  const std::string path = folder.write("a.env", "\nRATE=fast\n");
  EXPECT_CONTAINS(refused({"--config", path}), "RATE='fast' (file " + path + ":2) is not a number");
}

TEST(Options, UnknownFlagAndKeyNameTheNearest) {
  EXPECT_CONTAINS(refused({"--item-cuont", "1"}), "unknown flag --item-cuont | did you mean --item-count?");
  EXPECT_CONTAINS(refused({"--item_count=1"}), "did you mean --item-count?");
  EXPECT_CONTAINS(refused({"--ITEM-COUNT=1"}), "did you mean --item-count?");
  EXPECT_CONTAINS(refused({"--dryrun"}), "did you mean --dry-run?");
  EXPECT_CONTAINS(refused({"--something-else-entirely"}), "--help lists");
  EXPECT_CONTAINS(refused({"--positional-arguments=x"}), "unknown flag");
  const TemporaryFolder folder;
  const std::string path = folder.write("a.env", "FOLDER=x\nITEM_COUNTS=1\n");
  EXPECT_CONTAINS(refused({"--config", path}), path + ":2: unknown key ITEM_COUNTS | did you mean ITEM_COUNT?");
  EXPECT_CONTAINS(refused({"--config", folder.write("b.env", "item-count=1\n")}), "did you mean ITEM_COUNT?");
  EXPECT_CONTAINS(refused({"--config", folder.write("c.env", "DRY_RUN=1\n")}), "unknown key DRY_RUN");
}

TEST(Options, ShapesOfTheCommandLine) {
  EXPECT_CONTAINS(refused({"--rate", "0.1", "--rate=0.2"}), "--rate is given twice");
  EXPECT_CONTAINS(refused({"--dry-run", "--dry-run"}), "--dry-run is given twice");
  EXPECT_CONTAINS(refused({"--rate"}), "rate");
  EXPECT_CONTAINS(refused({"--folder", "--dry-run"}), "looks like a flag");
  EXPECT_CONTAINS(refused({"stray"}), "unexpected argument 'stray'");
  EXPECT_CONTAINS(refused({"--", "stray"}), "unexpected argument 'stray'");
  EXPECT_CONTAINS(refused({"-x"}), "unknown flag -x");
  EXPECT_CONTAINS(refused({"-rate", "1"}), "unknown flag -rate | did you mean --rate?");
  EXPECT_CONTAINS(refused({"--item-count", "-5"}), "from 1 to 100");
  for (const char* value : {"--", "-h", "--help"}) EXPECT_CONTAINS(refused({"--folder", value}), "looks like a flag");
  EXPECT_CONTAINS(refused({"--folder=--rate"}), "looks like a flag");
  EXPECT_CONTAINS(refused({"--folder=" + std::string(200'000, 'x')}), "longer than");
  const Arguments nothing({});
  Settings settings;
  EXPECT_NO_THROW(make_table(settings, {}).resolve(0, nothing.argv(), {}));
}

TEST(Options, Actions) {
  EXPECT_TRUE(run({"--dry-run"}).settings.dry);
  EXPECT_FALSE(run({}).settings.dry);
  EXPECT_FALSE(run({}, {{"DRY_RUN", "1"}}).settings.dry) << "an action has no environment variable";
  EXPECT_EQ(run({}).settings.from, "");
  EXPECT_EQ(run({"--from"}).settings.from, "here");
  EXPECT_EQ(run({"--from", "--dry-run"}).settings.from, "here");
  EXPECT_EQ(run({"--from", "there"}).settings.from, "there");
  EXPECT_EQ(run({"--from=there"}).settings.from, "there");
  EXPECT_EQ(run({"--also", "x,y", "--also=z"}).settings.extra, (std::vector<std::string>{"x,y", "z"}));
  EXPECT_CONTAINS(refused({"--dry-run=maybe"}), "takes no value");
  EXPECT_CONTAINS(refused({"--from="}), "empty value");
}

TEST(Options, HelpStopsBeforeOptionsAreRead) {
  for (const char* flag : {"--help", "-h"}) {
    const Outcome outcome = run({flag, "--rate=junk"}, {{"ITEM_COUNT", "junk"}}, {.required = true});
    EXPECT_TRUE(outcome.settings.help);
    EXPECT_TRUE(outcome.resolution.stopped);
    EXPECT_TRUE(outcome.resolution.options.empty());
  }
}

TEST(Options, PositionalArguments) {
  const Outcome outcome = run({"a,b.pt", "--dry-run", "c d", "--rate", "0.25", "--", "--e"}, {}, {.positional = true});
  EXPECT_EQ(outcome.settings.files, (std::vector<std::string>{"a,b.pt", "c d", "--e"}));
  EXPECT_EQ(outcome.settings.rate, 0.25);
}

TEST(Options, RequiredOption) {
  EXPECT_CONTAINS(refused({}, {}, {.required = true}), "--input is required");
  EXPECT_EQ(run({"--input", "x"}, {}, {.required = true}).settings.input, "x");
}

TEST(Options, ProgramsWithoutEnvironmentOrConfigFiles) {
  const Features bare = {.environment = false, .config_files = false};
  const Outcome outcome = run({}, {{"ITEM_COUNT", "30"}, {"ITEM_COUN", "1"}}, bare);
  EXPECT_EQ(outcome.settings.count, 3);
  EXPECT_TRUE(outcome.resolution.warnings.empty());
  EXPECT_CONTAINS(refused({"--config", "x"}, {}, bare), "unknown flag --config");
  Settings settings;
  const std::string help = make_table(settings, bare).help();
  EXPECT_FALSE(testing::contains(help, "ITEM_COUNT"));
  EXPECT_FALSE(testing::contains(help, "--config"));
}

TEST(Options, EnvironmentVariableOneTypoAway) {
  const auto warnings = [](const Environment& environment) { return run({}, environment).resolution.warnings; };
  for (const char* name : {"ITEM_COUN", "ITEM_COUNTS", "ITEM_CUONT", "ITEM_COUMT", "item_count", "FOLDERS"}) {
    const auto given = warnings({{name, "5"}});
    ASSERT_EQ(given.size(), 1u) << name;
    EXPECT_CONTAINS(given[0], std::string(name) + " is not used; did you mean ");
  }
  EXPECT_TRUE(warnings({{"ITEM_COUNT", "5"}, {"PATH", "/bin"}, {"HOME", "/"}, {"ITEMS", "3"}}).empty());
  EXPECT_TRUE(run({}, {{"RATES", "0.1"}}).settings.rate == 0.5);
}

TEST(Options, EmptyEnvironmentVariable) {
  const Outcome outcome = run({}, {{"ITEM_COUNT", ""}, {"NAMES", ""}});
  EXPECT_EQ(outcome.settings.count, 3);
  EXPECT_EQ(outcome.option("ITEM_COUNT").origin, "default");
  ASSERT_EQ(outcome.resolution.warnings.size(), 1u);
  EXPECT_CONTAINS(outcome.resolution.warnings[0], "ITEM_COUNT is empty and ignored");
  EXPECT_TRUE(outcome.settings.names.empty()) << "a list may be empty";
  EXPECT_EQ(outcome.option("NAMES").origin, "environment NAMES");
}

TEST(Options, Help) {
  Settings settings;
  const std::string help = make_table(settings, {.required = true}).help();
  EXPECT_CONTAINS(help, "Usage: demo [options]");
  EXPECT_CONTAINS(help, "\nNumbers\n");
  EXPECT_CONTAINS(help,
                  "--item-count INTEGER\n      How many.\n      integer 1 to 100, items; default 3; environment ITEM_COUNT\n");
  EXPECT_CONTAINS(help, "number 0 <= x < 1; default 0.5; environment RATE");
  EXPECT_CONTAINS(help, "plain|fancy; default plain; environment MODE");
  EXPECT_CONTAINS(help, "--from [HERE|PATH]\n");
  EXPECT_CONTAINS(help, "--help, -h\n");
  EXPECT_CONTAINS(help, "required; environment INPUT");
  EXPECT_LT(help.find("Numbers"), help.find("Words"));
}

TEST(Options, Markdown) {
  Settings settings;
  const std::string text = make_table(settings, {}).markdown();
  EXPECT_CONTAINS(text, "### Numbers\n");
  EXPECT_CONTAINS(text, "| `--item-count` | `ITEM_COUNT` | integer 1 to 100 | items | 3 | How many. |\n");
  EXPECT_CONTAINS(text, "plain\\|fancy");
}

TEST(Options, ListingShowsOriginsAndReadsBack) {
  const TemporaryFolder folder;
  const std::string file = folder.write("a.env", "FOLDER=\"my #1 folder\"\n");
  const Outcome first = run({"--config", file, "--rate", "0.125", "--names="}, {{"ITEM_COUNT", "30"}});
  const std::string listing = config_listing(first.resolution.options);
  EXPECT_CONTAINS(listing, "# Numbers\nITEM_COUNT=30 ");
  EXPECT_CONTAINS(listing, "# environment ITEM_COUNT\n");
  EXPECT_CONTAINS(listing, "# flag --rate\n");
  EXPECT_CONTAINS(listing, "FOLDER=\"my #1 folder\" ");
  EXPECT_CONTAINS(listing, "# file " + file + ":1\n");
  EXPECT_CONTAINS(listing, "# default\n");
  for (const std::string& text : {listing, config_env_text(first.resolution.options)}) {
    const Outcome again = run({"--config", folder.write("again.env", text)});
    for (const auto& option : first.resolution.options)
      EXPECT_EQ(again.option(option.name.c_str()).text, option.text) << option.name;
  }
}

TEST(Options, NotReplayableStaysOut) {
  Outcome outcome = run({});
  find_option(outcome.resolution.options, "FOLDER").replayable = false;
  EXPECT_FALSE(testing::contains(config_env_text(outcome.resolution.options), "FOLDER"));
  EXPECT_CONTAINS(config_listing(outcome.resolution.options), "# FOLDER=out ");
}

TEST(Options, ResumeDifferences) {
  const Outcome outcome = run({"--item-count=4", "--rate=0.25"});
  const auto differences = [&](const std::map<std::string, std::string>& stored) {
    return resume_differences(stored, outcome.resolution.options);
  };
  std::map<std::string, std::string> stored;
  for (const auto& option : outcome.resolution.options) stored[option.name] = option.text;
  EXPECT_TRUE(differences(stored).empty());
  stored["RATE"] = "0.75";  // may differ
  EXPECT_TRUE(differences(stored).empty());
  stored["ITEM_COUNT"] = "7";
  EXPECT_EQ(differences(stored), (std::vector<std::string>{"ITEM_COUNT: checkpoint has 7, this run has 4"}));
  stored.erase("ITEM_COUNT");
  EXPECT_EQ(differences(stored), (std::vector<std::string>{"ITEM_COUNT: checkpoint has no such option, this run has 4"}));
  EXPECT_TRUE(resume_differences(stored, run({}).resolution.options).empty());
  stored["ITEM_COUNT"] = "4";
  stored["NEW_THING"] = "1";
  EXPECT_EQ(differences(stored), (std::vector<std::string>{"NEW_THING: checkpoint has 1, this program has no such option"}));
}

TEST(Options, ReadEnvironment) {
  const char* const entries[] = {"A=1", "B=x=y", "C=", "odd", nullptr};
  EXPECT_EQ(read_environment(entries), (Environment{{"A", "1"}, {"B", "x=y"}, {"C", ""}}));
  EXPECT_TRUE(read_environment(nullptr).empty());
}

}  // namespace
}  // namespace pgolf
