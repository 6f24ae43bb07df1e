#include "rendezvous.h"

#include <netdb.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstring>
#include <torch/csrc/distributed/c10d/HashStore.hpp>
#include <torch/csrc/distributed/c10d/PrefixStore.hpp>
#include <torch/csrc/distributed/c10d/TCPStore.hpp>

#include "pgolf/base/error.h"
#include "pgolf/base/format.h"

namespace pgolf {
namespace {

using Addresses = std::unique_ptr<addrinfo, decltype(&::freeaddrinfo)>;

Addresses addresses_of(const std::string& host, int port, int type) {
  addrinfo hints{}, *found = nullptr;
  hints.ai_socktype = type;
  if (const int error = ::getaddrinfo(host.c_str(), std::to_string(port).c_str(), &hints, &found); error != 0) {
    throw Error(ExitCode::unavailable, format("the host %s has no address: %s", host.c_str(), ::gai_strerror(error)),
                "check MASTER_ADDR");
  }
  return {found, &::freeaddrinfo};
}

/// A socket that listens at host:port and nowhere else. LibTorch's own would listen on every address of the machine.
int listen_at(const std::string& host, int port) {
  const Addresses addresses = addresses_of(host, port, SOCK_STREAM);
  int error = 0;
  for (const addrinfo* at = addresses.get(); at != nullptr; at = at->ai_next) {
    const int fd = ::socket(at->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    const int on = 1;
    ::setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (::bind(fd, at->ai_addr, at->ai_addrlen) == 0 && ::listen(fd, SOMAXCONN) == 0) return fd;
    error = errno;
    ::close(fd);
  }
  throw Error(ExitCode::unavailable,
              format("rank 0 cannot listen at MASTER_ADDR=%s MASTER_PORT=%d: %s", host.c_str(), port, std::strerror(error)),
              error == EADDRINUSE ? "another job may use it; choose another MASTER_PORT"
                                  : "MASTER_ADDR must be an address of the machine that rank 0 runs on");
}

}  // namespace

StorePtr open_store(const Process& process, std::chrono::milliseconds timeout) {
  if (process.world_size() == 1) return c10::make_intrusive<c10d::HashStore>();
  static bool serves = false;
  c10d::TCPStoreOptions options;
  options.port = static_cast<uint16_t>(process.master_port());
  options.timeout = timeout;
  options.waitWorkers = false;
  if (process.is_master() && !process.launcher_has_store() && !serves) {
    options.isServer = true;
    options.masterListenFd = listen_at(process.master_addr(), process.master_port());
    serves = true;
  }
  const std::string& host = process.master_addr();
  addresses_of(host, process.master_port(), SOCK_STREAM);
  try {
    return c10::make_intrusive<c10d::PrefixStore>("train_gpt/" + process.attempt(),
                                                  c10::make_intrusive<c10d::TCPStore>(host, options));
  } catch (const std::exception&) {
    throw Error(ExitCode::peer_lost,
                format("rank %d on %s did not reach rank 0 at MASTER_ADDR=%s MASTER_PORT=%d within %lld s", process.rank(),
                       host_name().c_str(), host.c_str(), process.master_port(), static_cast<long long>(timeout.count() / 1000)),
                "check that rank 0 runs, and that a firewall lets this port through");
  }
}

std::string address_towards(const std::string& host) {
  constexpr int any_port = 9;  // nothing is sent there
  const Addresses addresses = addresses_of(host, any_port, SOCK_DGRAM);
  for (const addrinfo* at = addresses.get(); at != nullptr; at = at->ai_next) {
    const int fd = ::socket(at->ai_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    sockaddr_storage local{};
    socklen_t size = sizeof local;
    char text[NI_MAXHOST];
    const bool found =
        ::connect(fd, at->ai_addr, at->ai_addrlen) == 0 && ::getsockname(fd, reinterpret_cast<sockaddr*>(&local), &size) == 0 &&
        ::getnameinfo(reinterpret_cast<sockaddr*>(&local), size, text, sizeof text, nullptr, 0, NI_NUMERICHOST) == 0;
    ::close(fd);
    if (found) return text;
  }
  throw Error(ExitCode::unavailable, format("no network interface leads to MASTER_ADDR=%s", host.c_str()), "check the network");
}

std::string host_name() {
  char name[256] = "";
  ::gethostname(name, sizeof name - 1);
  return name;
}

}  // namespace pgolf
