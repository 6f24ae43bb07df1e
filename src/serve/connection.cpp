#include "connection.h"

#include <dirent.h>
#include <netdb.h>
#include <sys/socket.h>

#include <cerrno>
#include <charconv>
#include <memory>
#include <string_view>

namespace pgolf {
namespace {

bool is_from(int socket, const std::string& address, int port) {
  sockaddr_storage peer{};
  socklen_t length = sizeof peer;
  auto* const name = reinterpret_cast<sockaddr*>(&peer);
  if (::getpeername(socket, name, &length) != 0) return false;
  char host[NI_MAXHOST], service[NI_MAXSERV];
  if (::getnameinfo(name, length, host, sizeof host, service, sizeof service, NI_NUMERICHOST | NI_NUMERICSERV) != 0) return false;
  return host == address && service == std::to_string(port);
}

}  // namespace

Connection::Connection(const std::string& address, int port) {
  const std::unique_ptr<DIR, int (*)(DIR*)> folder(::opendir("/proc/self/fd"), ::closedir);
  if (folder == nullptr) return;
  while (const dirent* entry = ::readdir(folder.get())) {
    const std::string_view text = entry->d_name;
    int socket = -1;
    if (std::from_chars(text.data(), text.data() + text.size(), socket).ec == std::errc() && is_from(socket, address, port)) {
      socket_ = socket;
      return;
    }
  }
}

bool Connection::closed() const {
  if (socket_ < 0) return false;
  char byte = 0;
  const ssize_t n = ::recv(socket_, &byte, 1, MSG_PEEK | MSG_DONTWAIT);
  return n == 0 || (n < 0 && errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR);
}

}  // namespace pgolf
