// The commands of eval_gpt. argv[0] is the command's name; each has its own --help.
#pragma once

#include "pgolf/base/error.h"

namespace pgolf {

ExitCode run_score(int argc, const char* const* argv);
ExitCode run_generate(int argc, const char* const* argv);
ExitCode run_measure(int argc, const char* const* argv);
ExitCode run_choices(int argc, const char* const* argv);
ExitCode run_inspect(int argc, const char* const* argv);
ExitCode run_export(int argc, const char* const* argv);
ExitCode run_compare(int argc, const char* const* argv);
ExitCode run_serve(int argc, const char* const* argv);

}  // namespace pgolf
