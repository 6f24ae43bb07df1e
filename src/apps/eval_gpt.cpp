// eval_gpt: scores and compares stored models, samples text from them, and serves them.
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
    {"score", run_score, "Validation loss and bits per byte (default command)."},
    {"generate", run_generate, "Generate text from a prompt."},
    {"measure", run_measure, "Loss by length and position, memory, retrieval, attention, as JSON lines."},
    {"choices", run_choices, "Accuracy on multiple-choice and cloze tasks."},
    {"inspect", run_inspect, "Show the contents of a model file."},
    {"export", run_export, "Convert a model file to another format."},
    {"compare", run_compare, "Compare two models on the same tokens and tensor by tensor."},
    {"serve", run_serve, "OpenAI's completions API over HTTP, with a web page to try the model."},
};

}  // namespace

int main(int argc, char** argv) {
  const int code = run_main([&] {
    const std::string_view name = argc > 1 ? argv[1] : "";
    for (const auto& command : kCommands) {
      if (command.name == name) return command.run(argc - 1, argv + 1);
    }
    if (name == "--help" || name == "-h") {
      std::puts("Commands (eval_gpt COMMAND --help lists the options of each):");
      for (const auto& command : kCommands) std::printf("  %-10s%s\n", command.name, command.summary);
      std::puts("");
    }
    return run_score(argc, argv);  // the default command
  });
  return end_program(code);
}
