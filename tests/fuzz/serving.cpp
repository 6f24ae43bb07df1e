#include "serving.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <future>
#include <nlohmann/json.hpp>
#include <thread>

#include "answer.h"
#include "pgolf/serve/server.h"
#include "serve/support.h"

namespace pgolf::fuzz {
namespace {

constexpr const char* kModelName = "tiny";
constexpr RequestLimits kLimits{.context = 64, .max_tokens = 16, .max_choices = 4};

const Tokenizer& tokenizer() {
  static const Tokenizer tokenizer(testing::Dataset::get().tokenizer_path());
  return tokenizer;
}

testing::ScriptedModel& model() {
  static testing::ScriptedModel model(tokenizer().encode("the river walks, caf\u00e9 \u20ac 42"), kLimits.context);
  model.seeds.clear();
  return model;
}

void complete(const CompletionRequest& request) {
  Answer answer(model(), tokenizer(), request, "id", 0, kModelName);
  std::string events;
  while (!answer.done()) events += answer.step();
  if (request.stream) {
    events += answer.end_of_stream();
    if (!events.ends_with("data: [DONE]\n\n")) std::abort();
  } else if (!nlohmann::json::accept(answer.body())) {
    std::abort();
  }
}

/// Runs until the process ends. Its library takes an alarm while it accepts for the end.
int server_port() {
  static Server& server = *new Server(model(), tokenizer(),
                                      {.port = 0,
                                       .model_name = kModelName,
                                       .max_tokens = kLimits.max_tokens,
                                       .max_choices = kLimits.max_choices,
                                       .max_requests = 2});
  static const int port = [] {
    std::promise<void> ready;
    sigset_t alarm, before;
    ::sigemptyset(&alarm);
    ::sigaddset(&alarm, SIGALRM);
    ::pthread_sigmask(SIG_BLOCK, &alarm, &before);
    std::thread([&ready] { server.run([&ready] { ready.set_value(); }, [] { return false; }); }).detach();
    ready.get_future().wait();
    ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
    return server.port();
  }();
  return port;
}

/// A socket. libFuzzer's alarms interrupt calls.
int connected() {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<uint16_t>(server_port()));
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  for (;;) {
    const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd >= 0 && ::connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0) return fd;
    if (errno != EINTR) std::abort();
    ::close(fd);
  }
}

std::string exchange(BytesView sent) {
  const int fd = connected();
  while (!sent.empty()) {
    const ssize_t n = ::send(fd, sent.data(), sent.size(), MSG_NOSIGNAL);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) break;  // the server has heard enough
    sent = sent.subspan(static_cast<size_t>(n));
  }
  ::shutdown(fd, SHUT_WR);
  std::string received;
  char buffer[4096];
  for (;;) {
    const ssize_t n = ::recv(fd, buffer, sizeof buffer, 0);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) break;
    received.append(buffer, static_cast<size_t>(n));
  }
  ::close(fd);
  return received;
}

}  // namespace

void read_request(BytesView input) {
  const std::string_view body = text_of(input);
  const auto refusal_allowed = [](const auto& f) {
    try {
      f();
    } catch (const ApiError& error) {
      if (error.status >= 500) throw;
    }
  };
  refusal_allowed([&] { complete(parse_completion_request(body, kModelName, tokenizer(), kLimits)); });
  refusal_allowed([&] { parse_tokenize_request(body, tokenizer()); });
  refusal_allowed([&] { tokenizer().decode(parse_detokenize_request(body, tokenizer())); });
}

std::vector<Bytes> request_seeds() {
  return {
      bytes_of(R"({"model":"tiny","prompt":"the river","max_tokens":8,"temperature":0.5,"top_p":0.9,"n":2,"stop":["a","b"]})"),
      bytes_of(
          R"({"prompt":[[1,20],[3]],"logprobs":3,"echo":true,"stream":true,"stream_options":{"include_usage":true},"seed":7})"),
      bytes_of(R"({"prompt":["a","b"],"top_k":5})"), bytes_of(R"({"tokens":[1,2,3]})")};
}

void read_http(BytesView input) {
  const std::string response = exchange(input);
  const bool answered = response.starts_with("HTTP/1.") && response.find("\r\n\r\n") != response.npos;
  if (!response.empty() && (!answered || response.substr(8, 4) == " 500")) std::abort();
}

std::vector<Bytes> http_seeds() {
  const auto post = [](const std::string& path, const std::string& body, const std::string& headers = {}) {
    return bytes_of("POST " + path + " HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: " +
                    std::to_string(body.size()) + "\r\n" + headers + "\r\n" + body);
  };
  return {bytes_of("GET / HTTP/1.1\r\nHost: localhost\r\n\r\nGET /v1/models/tiny HTTP/1.1\r\nHost: localhost\r\n\r\n"),
          bytes_of("HEAD /health HTTP/1.0\r\n\r\n"),
          bytes_of("GET /tokenizer_info?a=%20b HTTP/1.1\r\nHost: 127.0.0.1\r\nRange: bytes=0-3\r\nAccept-Encoding: gzip\r\n\r\n"),
          post("/v1/completions", R"({"prompt":"the","stream":true,"max_tokens":3})", "Connection: close\r\n"),
          post("/v1/completions", R"({"prompt":"the","max_tokens":3})", "Expect: 100-continue\r\n"),
          post("/tokenize", R"({"prompt":"the"})", "Origin: http://localhost\r\n"),
          bytes_of("POST /detokenize HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
                   "8\r\n{\"tokens\r\n7\r\n\":[5]} \r\n0\r\n\r\n"),
          bytes_of("POST /tokenize HTTP/1.1\r\nHost: localhost\r\nContent-Length: 44\r\n"
                   "Content-Type: multipart/form-data; boundary=b\r\n\r\n"
                   "--b\r\nContent-Disposition: form-data\r\n\r\nx\r\n--b--\r\n")};
}

}  // namespace pgolf::fuzz
