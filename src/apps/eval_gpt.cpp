// eval_gpt: measures stored models, and lets them speak.
#include <cstdio>
#include <string_view>

#include "eval/commands.h"

using namespace pgolf;

namespace {

struct Command {
  const char* name;
  ExitCode (*run)(int argc, const char* const* argv);
  const char* summary;  ///< a line of --help
};

constexpr Command kCommands[] = {
    {"score", run_score, "Validation loss and bits per byte; the command if none is named."},
    {"generate", run_generate, "Continuations of a prompt."},
    {"measure", run_measure, "Loss by length and position, memory, retrieval, attention, as JSON lines."},
    {"choices", run_choices, "Accuracy on multiple-choice and cloze sets."},
    {"inspect", run_inspect, "What is in a model file."},
    {"export", run_export, "A model as a file of another format."},
    {"compare", run_compare, "Two models on the same tokens, and tensor by tensor."},
    {"serve", run_serve, "OpenAI's completions API over HTTP, with a page to try the model on."},
};

}  // namespace

int main(int argc, char** argv) {
  return run_main([&] {
    const std::string_view name = argc > 1 ? argv[1] : "";
    for (const auto& command : kCommands) {
      if (command.name == name) return command.run(argc - 1, argv + 1);
    }
    if (name == "--help" || name == "-h") {
      std::puts("Commands, each with a help of its own: eval_gpt COMMAND --help");
      for (const auto& command : kCommands) std::printf("  %-10s%s\n", command.name, command.summary);
      std::puts("");
    }
    return run_score(argc, argv);  // its name may be left out
  });
}
