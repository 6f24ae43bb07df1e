// Prints the level of instructions that a program uses here: for at_level.py.
#include <cstdio>

#include "pgolf/base/cpu_level.h"
#include "pgolf/base/error.h"

int main() {
  return pgolf::run_main([] {
    std::puts(pgolf::cpu_level_name(pgolf::cpu_level()));
    return pgolf::ExitCode::ok;
  });
}
