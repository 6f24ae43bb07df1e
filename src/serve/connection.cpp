#include "connection.h"

#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

namespace pgolf {
namespace {

constexpr size_t kBufferBytes = 16 << 10;
constexpr size_t kMaxHeaderBytes = 64 << 10;  // the library limits lines after it has read them
constexpr int kSliceMs = 50;                  // between looks at whether the server stops
constexpr std::chrono::seconds kLinger{2}, kAskAgain{1};
constexpr int kWriteTimeoutMs = 5000;

thread_local Connection* current_connection = nullptr;

/// The events of poll() that hold within the time; none if it fails.
int poll_for(socket_t socket, short events, int timeout_ms) {
  pollfd state{socket, events, 0};
  return ::poll(&state, 1, timeout_ms) > 0 ? state.revents : 0;
}

}  // namespace

Connection::Connection(socket_t socket) : socket_(socket), ahead_(kBufferBytes) {
  current_connection = this;
}

Connection::~Connection() {
  ::shutdown(socket_, SHUT_RDWR);
  ::close(socket_);
  current_connection = nullptr;
}

Connection& Connection::current() {
  return *current_connection;
}

bool Connection::wait_for_request(int timeout_s, const std::function<bool()>& stop) {
  if (next_ < end_) return true;
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(timeout_s);
  while (!stop()) {
    if (poll_for(socket_, POLLIN, kSliceMs) != 0) return true;
    if (std::chrono::steady_clock::now() > end) return false;
  }
  return false;
}

void Connection::begin_request() {
  allowed_ = kMaxHeaderBytes;
  closing_ = true;
  next_ask_ = {};
}

void Connection::understood(bool closing, size_t max_bytes) {
  allowed_ = max_bytes;
  closing_ = closing;
}

void Connection::linger() {
  ::shutdown(socket_, SHUT_WR);
  const auto end = std::chrono::steady_clock::now() + kLinger;
  while (std::chrono::steady_clock::now() < end) {
    if (poll_for(socket_, POLLIN, kSliceMs) != 0 && receive(ahead_.data(), ahead_.size()) <= 0) return;
  }
}

bool Connection::gone(const std::function<bool()>& ask) {
  const int state = poll_for(socket_, POLLRDHUP, 0);
  if ((state & (POLLERR | POLLHUP)) != 0) return true;
  const auto now = std::chrono::steady_clock::now();
  if ((state & POLLRDHUP) == 0 || now < next_ask_) return false;
  next_ask_ = now + kAskAgain;
  return !ask();
}

bool Connection::is_readable() const {
  return next_ < end_ || poll_for(socket_, POLLIN, 0) != 0;
}

bool Connection::is_writable() const {
  const int state = poll_for(socket_, POLLOUT, kWriteTimeoutMs);
  return (state & POLLOUT) != 0 && (state & (POLLERR | POLLHUP)) == 0;
}

ssize_t Connection::receive(char* to, size_t size) {
  for (;;) {
    const ssize_t n = ::recv(socket_, to, size, 0);
    if (n >= 0 || errno != EINTR) return n;
  }
}

ssize_t Connection::read(char* to, size_t size) {
  if (next_ == end_) {
    const ssize_t n = receive(ahead_.data(), ahead_.size());
    if (n <= 0) return n;
    next_ = 0;
    end_ = static_cast<size_t>(n);
  }
  const size_t taken = std::min({size, end_ - next_, allowed_});
  if (taken == 0) return -1;
  std::memcpy(to, ahead_.data() + next_, taken);
  next_ += taken;
  allowed_ -= taken;
  return static_cast<ssize_t>(taken);
}

ssize_t Connection::write(const char* from, size_t size) {
  for (;;) {
    const ssize_t n = ::send(socket_, from, size, MSG_NOSIGNAL);
    if (n >= 0 || errno != EINTR) return n;
  }
}

// Nothing here asks for addresses.
void Connection::get_remote_ip_and_port(std::string& /*ip*/, int& /*port*/) const {}
void Connection::get_local_ip_and_port(std::string& /*ip*/, int& /*port*/) const {}

}  // namespace pgolf
