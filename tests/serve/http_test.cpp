// What HTTP itself asks of the server, whatever is requested.
#include <arpa/inet.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "server_fixture.h"
#include "support/full_pipe.h"

namespace pgolf::testing {
namespace {

/// A client that sends bytes as they are.
class RawClient {
 public:
  explicit RawClient(int port) : socket_(::socket(AF_INET, SOCK_STREAM, 0)) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(static_cast<uint16_t>(port));
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    EXPECT_EQ(::connect(socket_, reinterpret_cast<const sockaddr*>(&address), sizeof address), 0);
    const timeval patience{60, 0};
    ::setsockopt(socket_, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
  }
  ~RawClient() { ::close(socket_); }
  RawClient(const RawClient&) = delete;
  RawClient& operator=(const RawClient&) = delete;

  /// False: the server does not listen any more.
  bool send(std::string_view text) const {
    while (!text.empty()) {
      const ssize_t n = ::send(socket_, text.data(), text.size(), MSG_NOSIGNAL);
      if (n < 0) return false;
      text.remove_prefix(static_cast<size_t>(n));
    }
    return true;
  }
  /// Whether the server has sent something, or closed the connection.
  bool has_news() const {
    char byte = 0;
    return ::recv(socket_, &byte, 1, MSG_PEEK | MSG_DONTWAIT) >= 0 || errno != EAGAIN;
  }
  void end_own_side() const { ::shutdown(socket_, SHUT_WR); }
  /// Up to the end of the connection.
  std::string receive() const {
    std::string all;
    char buffer[4096];
    for (;;) {
      const ssize_t n = ::recv(socket_, buffer, sizeof buffer, 0);
      if (n <= 0) return all + (n < 0 ? "(no end: " + std::string(std::strerror(errno)) + ")" : "");
      all.append(buffer, static_cast<size_t>(n));
    }
  }

 private:
  int socket_;
};

std::string post_request(const std::string& path, const std::string& body, const std::string& version = "1.1") {
  return "POST " + path + " HTTP/" + version + "\r\nHost: localhost\r\nContent-Length: " + std::to_string(body.size()) +
         "\r\n\r\n" + body;
}

size_t count_of(const std::string& text, const std::string& part) {
  size_t count = 0;
  for (size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + part.size())) ++count;
  return count;
}

constexpr const char* kHealth = "GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n";
constexpr const char* kLastHealth = "GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";

class HttpTest : public ServerTest {
 protected:
  /// All that the server answers to this, up to the end of the connection.
  std::string exchange(const std::string& sent, bool ends_own_side = false) const {
    const RawClient client(server_->port());
    client.send(sent);
    if (ends_own_side) client.end_own_side();
    return client.receive();
  }
};

TEST_F(HttpTest, ABodyWithoutAClearEndIsRefusedUnread) {
  options_.max_body_bytes = 2000;
  start();
  const struct {
    int status;
    const char* headers;
  } cases[] = {
      {411, ""},
      {413, "Content-Length: 2001\r\n"},
      {413, "Content-Length: 1280000000\r\n"},
      {413, "Content-Length: 99999999999999999999999\r\n"},
      {413, "Content-Length: 2001\r\nExpect: 100-continue\r\n"},
      {413, "Content-Length: 2001\r\nContent-Type: multipart/form-data; boundary=x\r\n"},
      {400, "Content-Length: abc\r\n"},
      {400, "Content-Length: -5\r\n"},
      {400, "Content-Length: +14\r\n"},
      {400, "Content-Length: 0xe\r\n"},
      {400, "Content-Length: 14 14\r\n"},
      {400, "Content-Length: 14,14\r\n"},
      {400, "Content-Length: 14\r\nContent-Length: 14\r\n"},
      {400, "Content-Length: 14\r\nContent-Length: 15\r\n"},
      {400, "Content-Length: 14\r\nTransfer-Encoding: chunked\r\n"},
      {400, "Content-Length : 14\r\n"},
      {400, "Transfer-Encoding: gzip, chunked\r\n"},
      {400, "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n"},
  };
  for (const auto& [status, headers] : cases) {
    const std::string head = std::string("/v1/completions HTTP/1.1\r\nHost: localhost\r\n") + headers + "\r\n";
    for (const std::string rest : {"", R"({"prompt":"a"})"}) {
      const std::string answer = exchange("POST " + head + rest + (rest.empty() ? "" : kHealth));
      EXPECT_TRUE(answer.starts_with("HTTP/1.1 " + std::to_string(status))) << headers << answer;
      EXPECT_NE(answer.find("\r\nConnection: close\r\n"), std::string::npos) << headers << answer;
      EXPECT_NE(answer.find(R"({"error":{)"), std::string::npos) << headers << answer;
      EXPECT_EQ(count_of(answer, "HTTP/1.1 "), 1u) << headers << answer;
      EXPECT_EQ(answer.find("(no end"), std::string::npos) << headers << answer;
    }
    EXPECT_TRUE(exchange("PUT " + head).starts_with("HTTP/1.1 " + std::to_string(status))) << headers;
  }
  EXPECT_EQ(complete({{"prompt", "a"}, {"max_tokens", 1}}).status, 200);
}

TEST_F(HttpTest, ABodyThatIsTooLargeIsNotReadToItsEnd) {
  options_.max_body_bytes = 2000;
  start();
  const RawClient client(server_->port());
  client.send("POST /tokenize HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nffffff\r\n" +
              std::string(3000, 'x'));
  EXPECT_TRUE(client.receive().starts_with("HTTP/1.1 413"));
}

TEST_F(HttpTest, RequestsThatFollowWithoutAPauseAreAnsweredInOrder) {
  start();
  const std::string ids = "{\"tokens\":[9]}";
  const std::string answers = exchange(std::string(kHealth) + post_request("/tokenize", R"({"prompt":"the"})") +
                                       post_request("/detokenize", ids) + kLastHealth);
  EXPECT_EQ(count_of(answers, "HTTP/1.1 200"), 4u) << answers;
  const size_t tokens = answers.find("\"tokens\""), prompt = answers.find("\"prompt\"");
  EXPECT_LT(answers.find("ok"), tokens);
  EXPECT_LT(tokens, prompt);
  EXPECT_LT(prompt, answers.rfind("ok"));
  EXPECT_EQ(count_of(answers, "Connection: close"), 1u) << answers;
}

TEST_F(HttpTest, AfterTheLastAnswerOfAConnectionItIsClosed) {
  start();
  std::string many;
  for (int i = 0; i < 50; ++i) many += kHealth;
  const std::string answers = exchange(many);
  EXPECT_GE(count_of(answers, "HTTP/1.1 200"), 1u);
  EXPECT_EQ(count_of(answers, "Connection: close"), 1u);
  EXPECT_GT(answers.find("Connection: close"), answers.rfind("HTTP/1.1 200")) << answers;
  EXPECT_EQ(answers.find("(no end"), std::string::npos) << answers;
}

// What is not read as a body must not be read as a request.
TEST_F(HttpTest, WhatIsNotUnderstoodEndsTheConnection) {
  bool drawn = false;
  model_.before_token = [&] { drawn = true; };
  start();
  const std::string inner = post_request("/v1/completions", R"({"prompt":"a"})");
  const std::string length = "\r\nContent-Length: " + std::to_string(inner.size()) + "\r\n\r\n";
  for (const std::string& outer :
       {"GET /health HTTP/1.1" + length, "HEAD /health HTTP/1.1" + length, "DELETE /health HTTP/1.1" + length,
        "POST /nothing HTTP/1.1" + length, "BREW / HTTP/1.1\r\n\r\n" + std::string(), "GET /\r\n" + std::string(),
        "GET / HTTP/1.1\r\nRange: none\r\n\r\n" + std::string()}) {
    const std::string answer = exchange(outer + inner);
    EXPECT_EQ(count_of(answer, "HTTP/1.1 "), 1u) << outer << answer;
    EXPECT_NE(answer.find("Connection: close"), std::string::npos) << outer << answer;
    EXPECT_EQ(answer.find("Keep-Alive"), std::string::npos) << outer << answer;
  }
  EXPECT_FALSE(drawn);
}

TEST_F(HttpTest, LinesHaveAnEnd) {
  start();
  for (const char* begin :
       {"GET /", "GET / HTTP/1.1\r\nX: ", "POST /tokenize HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1;"}) {
    const RawClient client(server_->port());
    client.send(begin);
    int blocks = 0;
    while (blocks < 10'000 && !client.has_news() && client.send(std::string(10'000, 'x'))) ++blocks;
    EXPECT_LT(blocks, 10'000) << "100 MB of a line were read";
  }
}

TEST_F(HttpTest, AClientThatEndsOnlyItsOwnSideIsAnswered) {
  start();
  EXPECT_NE(exchange(kHealth, true).find(R"({"status":"ok"})"), std::string::npos);
  for (const char* body : {R"({"prompt":"the"})", R"({"prompt":"the","stream":true})"}) {
    const std::string answer = exchange(post_request("/v1/completions", body), true);
    EXPECT_NE(answer.find("HTTP/1.1 200"), std::string::npos) << answer;
    EXPECT_NE(answer.find("river"), std::string::npos) << answer;
  }
}

TEST_F(HttpTest, AClientThatHasClosedCostsNothingMore) {
  start_slowly();
  for (const char* version : {"1.0", "1.1"}) {
    for (const char* stream : {"false", "true"}) {
      drawn_ = 0;
      const std::string body = R"({"prompt":"a","max_tokens":4000,"stream":)" + std::string(stream) + "}";
      {
        const RawClient client(server_->port());
        client.send(post_request("/v1/completions", body, version));
        while (drawn_ == 0) std::this_thread::sleep_for(std::chrono::milliseconds(1));
      }
      expect_free_slot();
    }
  }
}

TEST_F(HttpTest, AClientThatClosesAfterItsOwnSideCostsNothingMore) {
  start_slowly();
  for (const char* stream : {"false", "true"}) {
    drawn_ = 0;
    {
      const RawClient client(server_->port());
      client.send(post_request("/v1/completions", R"({"prompt":"a","max_tokens":4000,"stream":)" + std::string(stream) + "}"));
      client.end_own_side();
      while (!client.has_news()) std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    expect_free_slot();
  }
}

TEST_F(HttpTest, AnOldClientGetsAStreamAsPlainText) {
  start();
  const std::string body = R"({"prompt":"the","stream":true})";
  const std::string old = exchange(post_request("/v1/completions", body, "1.0"));
  const std::string events = old.substr(old.find("\r\n\r\n") + 4);
  EXPECT_TRUE(events.starts_with("data: {")) << old;
  EXPECT_TRUE(events.ends_with("data: [DONE]\n\n")) << old;
  EXPECT_EQ(count_of(events, "\r\n"), 0u) << old;
  EXPECT_EQ(old.find("chunked"), std::string::npos) << old;
}

TEST_F(HttpTest, RangesAreIgnored) {
  start();
  const auto page = client().Get("/", {{"Range", "bytes=0-5"}});
  ASSERT_TRUE(page);
  EXPECT_EQ(page->status, 200);
  EXPECT_EQ(page->body, get("/").text);
  EXPECT_EQ(client().Post("/tokenize", {{"Range", "bytes=0-5"}}, R"({"prompt":"the"})", "application/json")->status, 200);
}

TEST_F(HttpTest, AWrongMethodIsToldTheRightOnes) {
  start();
  const std::string asks =
      exchange("PUT /tokenize HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n");
  EXPECT_TRUE(asks.starts_with("HTTP/1.1 405")) << asks;
  const auto wrong = client().Get("/v1/completions");
  ASSERT_TRUE(wrong);
  EXPECT_EQ(wrong->status, 405);
  EXPECT_EQ(wrong->get_header_value("Allow"), "POST");
  const auto right = client().Post("/v1/models/tiny", "{}", "application/json");
  ASSERT_TRUE(right);
  EXPECT_EQ(right->status, 405);
  EXPECT_EQ(right->get_header_value("Allow"), "GET, HEAD");
  EXPECT_EQ(client().Head("/health")->status, 200);
}

TEST_F(HttpTest, ALogThatNobodyReadsHoldsUpNothing) {
  std::string text;
  {
    const FullPipeAsStderr pipe;
    start();
    EXPECT_EQ(get("/v1/nothing").status, 404);
    EXPECT_EQ(get("/v1/nothing").status, 404);
    EXPECT_NE(pipe.read(), "");
    EXPECT_EQ(get("/v1/nothing").status, 404);
    text = pipe.read();
  }
  EXPECT_TRUE(text.starts_with("2 lines are missing here")) << text;
  EXPECT_NE(text.find("GET /v1/nothing: 404"), std::string::npos) << text;
}

TEST_F(ServerTest, WhatItDoesNotServeIsTheClientsError) {
  start();
  const auto expect_refused = [&](const std::string& method, const std::string& path, const httplib::Headers& headers,
                                  const std::string& body, int status) {
    httplib::Request request;
    request.method = method;
    request.path = path;
    request.headers = headers;
    request.body = body;
    ::testing::internal::CaptureStderr();
    const Reply reply = reply_of(client().send(request));
    const std::string logged = ::testing::internal::GetCapturedStderr();
    EXPECT_EQ(reply.status, status) << method << " " << path << ": " << reply.text;
    if (method != "HEAD") {
      EXPECT_TRUE(reply.body.is_object() && reply.body.contains("error")) << reply.text;
    }
    EXPECT_TRUE(logged.starts_with(method + " ") && logged.find(": " + std::to_string(status)) != std::string::npos) << logged;
  };
  const std::string form = "--x\r\nContent-Disposition: form-data; name=\"prompt\"\r\n\r\na\r\n--x--\r\n";
  const auto type = [](const std::string& value) { return httplib::Headers{{"Content-Type", value}}; };
  for (const char* path : {"/v1/completions", "/tokenize", "/detokenize"}) {
    expect_refused("POST", path, type("multipart/form-data; boundary=x"), form, 415);
    expect_refused("POST", path, type("application/octet-stream"), std::string("\0\xff", 2), 400);
    expect_refused("POST", path, type("application/json"), "", 400);
  }
  expect_refused("POST", "/v1/completions", type("multipart/form-data; boundary=x"), "no form", 400);
  expect_refused("POST", "/v1/completions", {{"Content-Encoding", "unknown"}}, "{}", 400);
  expect_refused("POST", "/v1/chat/completions", type("multipart/form-data; boundary=x"), form, 404);
  expect_refused("POST", "/v1/chat/completions", type("application/json"), "{}", 404);
  for (const char* method : {"PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"}) {
    expect_refused(method, "/v1/completions", {}, "", 405);
    expect_refused(method, "/v1/nothing", {}, "", 404);
  }
  expect_refused("HEAD", "/v1/nothing", {}, "", 404);
  expect_refused("BREW", "/v1/completions", {}, "", 400);
  EXPECT_EQ(complete({{"prompt", "a"}, {"max_tokens", 1}}).status, 200);  // and goes on
}

TEST_F(ServerTest, CrossSiteRequestsAreRefused) {
  start();
  const std::string here = "127.0.0.1:" + std::to_string(server_->port());
  const auto status = [&](const httplib::Headers& headers) {
    return client().Post("/v1/completions", headers, R"({"prompt":"a"})", "text/plain")->status;
  };
  EXPECT_EQ(status({{"Host", here}, {"Origin", "http://" + here}}), 200);
  EXPECT_EQ(status({{"Host", "localhost:8000"}}), 200);
  EXPECT_EQ(status({{"Host", "[::1]:8000"}}), 200);
  EXPECT_EQ(status({{"Host", here}, {"Origin", "https://example.org"}}), 403);
  EXPECT_EQ(status({{"Host", here}, {"Origin", "null"}}), 403);
  EXPECT_EQ(status({{"Host", "example.org:8000"}, {"Origin", "http://example.org:8000"}}), 403);
}

// An unread body would be parsed as the next request of the connection, one without an Origin.
TEST_F(ServerTest, ARefusedBodyIsNotParsedAsARequest) {
  bool drawn = false;
  model_.before_token = [&] { drawn = true; };
  start();
  const std::string inner = "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 14\r\n\r\n{\"prompt\":\"a\"}";
  auto one_connection = client();
  one_connection.set_keep_alive(true);
  const auto refused = one_connection.Post("/v1/completions", {{"Origin", "https://example.org"}}, inner, "text/plain");
  ASSERT_TRUE(refused);
  EXPECT_EQ(refused->status, 403);
  const auto next = one_connection.Get("/health");
  ASSERT_TRUE(next);
  EXPECT_EQ(next->body, R"({"status":"ok"})");
  EXPECT_FALSE(drawn);
}

TEST_F(ServerTest, BodiesOfUnknownLengthHaveTheSameLimit) {
  options_.max_body_bytes = 2000;
  start();
  for (const size_t length : {size_t{1000}, size_t{100'000}}) {
    const std::string body = json{{"prompt", "a"}, {"max_tokens", 1}, {"user", std::string(length, 'x')}}.dump();
    const auto chunks = [&](size_t offset, httplib::DataSink& sink) {
      const size_t size = std::min<size_t>(body.size() - offset, 700);
      if (size == 0) {
        sink.done();
        return true;
      }
      return sink.write(body.data() + offset, size);
    };
    const auto result = client().Post("/v1/completions", httplib::Headers(), chunks, "application/json");
    ASSERT_TRUE(result);
    EXPECT_EQ(result->status, length < 2000 ? 200 : 413) << result->body;
  }
  // curl's own content type, beyond the library's limit for forms.
  options_.max_body_bytes = 4 << 20;
  finish();
  start();
  const std::string body = json{{"prompt", "a"}, {"max_tokens", 1}, {"user", std::string(20'000, 'x')}}.dump();
  EXPECT_EQ(client().Post("/v1/completions", body, "application/x-www-form-urlencoded")->status, 200);
}

}  // namespace
}  // namespace pgolf::testing
