// What the HTTP library's own connections lack: they forget what a client sent ahead, and take one that ended its side for gone.
#pragma once

#include <httplib.h>

#include <chrono>
#include <functional>
#include <string>
#include <vector>

namespace pgolf {

/// A client's connection, from accept() to close(). All of it runs on one thread, current()'s.
class Connection : public httplib::Stream {
 public:
  /// socket: connected, with timeouts for reading and writing.
  explicit Connection(socket_t socket);
  ~Connection() override;
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;

  /// The connection whose request this thread serves.
  static Connection& current();

  /// Waits for the first byte of a request. False: none came in time, the client has ended its side, or `stop` became true.
  bool wait_for_request(int timeout_s, const std::function<bool()>& stop);
  /// Before each request. It is the last one unless its headers turn out to be understood().
  void begin_request();
  /// closing: no further request can follow. max_bytes: of the body, as it is sent.
  void understood(bool closing, size_t max_bytes);

  /// Whether no further request is read: the answer says so, and the client may still be sending.
  bool closing() const { return closing_; }
  void close_after_answer() { closing_ = true; }
  /// Lets a client that is still sending get the answer, which it loses if the connection is closed before all is read.
  void linger();

  /// Whether the client can get no answer any more. One that has ended its side may have closed its socket, or wait for its
  /// answer. ask is then called, once a second, to send something that clients ignore: the system of a client that has closed
  /// answers with a reset. It returns false if there is nothing to send, and the client counts as gone.
  bool gone(const std::function<bool()>& ask);

  /// Fails, as at the end of what the client sends, if headers or body are too long.
  ssize_t read(char* to, size_t size) override;
  ssize_t write(const char* from, size_t size) override;
  bool is_readable() const override;
  bool is_writable() const override;
  void get_remote_ip_and_port(std::string& ip, int& port) const override;
  void get_local_ip_and_port(std::string& ip, int& port) const override;
  socket_t socket() const override { return socket_; }

 private:
  ssize_t receive(char* to, size_t size);

  socket_t socket_;
  std::vector<char> ahead_;  ///< received and not yet read: from next_ to end_
  size_t next_ = 0, end_ = 0;
  size_t allowed_ = 0;  ///< bytes that may still be read of this request's headers, or of its body
  bool closing_ = true;
  std::chrono::steady_clock::time_point next_ask_;
};

}  // namespace pgolf
