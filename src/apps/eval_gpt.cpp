// eval_gpt: measures stored models, and lets them speak.
#include <string_view>

#include "eval/commands.h"

using namespace pgolf;

namespace {

struct Command {
  std::string_view name;
  ExitCode (*run)(int argc, const char* const* argv);
};

constexpr Command kCommands[] = {{"score", run_score},     {"generate", run_generate}, {"measure", run_measure},
                                 {"choices", run_choices}, {"inspect", run_inspect},   {"export", run_export},
                                 {"compare", run_compare}, {"serve", run_serve}};

}  // namespace

int main(int argc, char** argv) {
  return run_main([&] {
    const std::string_view name = argc > 1 ? argv[1] : "";
    for (const auto& command : kCommands) {
      if (command.name == name) return command.run(argc - 1, argv + 1);
    }
    return run_score(argc, argv);  // its name may be left out
  });
}
