// What the HTTP library does not tell about a client: whether it is still there.
#pragma once

#include <string>

namespace pgolf {

/// A connection accepted by this process. Use it while the request is being answered.
class Connection {
 public:
  /// By its peer. Not found: never reported as closed.
  Connection(const std::string& address, int port);

  /// Whether the client has closed it, or its side of it.
  bool closed() const;

 private:
  int socket_ = -1;
};

}  // namespace pgolf
