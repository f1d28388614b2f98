/* What the parts of the generator share; main.c says what it is. */
#define _GNU_SOURCE
#include <netinet/in.h>
#include <openssl/ssl.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SECOND INT64_C(1000000000)
#define MAX_HEAD 16384 /* bytes of a response head */
#define MAX_WATCHED 8  /* processes whose CPU time is read */

enum opcode { CONTINUATION = 0, TEXT = 1, BINARY = 2, CLOSE = 8, PING = 9, PONG = 10 };
/* GREETING is Socket.IO's own handshake, behind that of RFC 6455. */
enum state { UNUSED, CONNECTING, TLS, UPGRADING, GREETING, OPEN, CLOSING, CLOSED };

struct connection {
    enum state state;
    int fd;
    SSL *ssl;
    bool wants_write; /* TLS asked for it during its handshake */
    uint32_t interest;
    int64_t started_at;
    char key[25];
    char *response; /* the response head so far, then the greeting; freed when open */
    size_t response_size;
    /* the frame being read */
    uint8_t head[10];
    size_t head_size;
    bool in_frame;
    uint64_t frame_left;
    uint8_t control[125];
    size_t control_size;
    /* the message being read */
    bool in_message, is_packed;
    uint64_t message_size;
    uint8_t *packed; /* a compressed message, until it is whole */
    uint64_t received, sent; /* messages; also the places in the ring, from `offset` */
    uint64_t offset;
    int64_t *sent_at; /* by message, modulo depth */
    uint8_t *out;
    size_t out_size, out_done, out_capacity;
};

extern struct options {
    struct sockaddr_in address;
    const char *host, *path;
    int port, connections, depth, core, watched[MAX_WATCHED], watched_count;
    size_t size;
    double duration, warm_up, rate;
    bool tls, resume, binary, compress, socketio, handshakes, idle, touch, storm;
} options;

extern struct connection *connections;
extern SSL_CTX *tls;
extern int poller;
extern bool refilling, measuring;
extern int opened, opening, started, closed;
extern uint64_t messages, errors, packed_messages, packed_bytes, resumptions;

/* main.c */
int64_t now(void);
void die(const char *format, ...) __attribute__((noreturn, format(printf, 1, 2)));

/* histogram.c */
void note_latency(int64_t nanoseconds);
double microseconds_at(double quantile);
double largest_microseconds(void);

/* messages.c: a message's place is taken modulo the ring's size. */
void fill_random(uint8_t *bytes, size_t size);
size_t write_head(uint8_t *to, uint8_t first, uint64_t size, const uint8_t mask[4]);
void make_messages(void);
const uint8_t *payload_at(uint64_t place);
const uint8_t *frame_at(uint64_t place, size_t *size);
bool is_payload_packed(const uint8_t *bytes, size_t size, uint64_t place);

/* connection.c */
bool has_session(void);
void start(struct connection *c);
void handle(struct connection *c, uint32_t events);
void queue(struct connection *c, const void *bytes, size_t size);
void flush(struct connection *c);
void send_message(struct connection *c, int64_t at);
void send_control(struct connection *c, enum opcode opcode, const void *bytes, size_t size);
void send_close(struct connection *c);
void end(struct connection *c);
void fail(struct connection *c, const char *format, ...) __attribute__((format(printf, 2, 3)));
void note_open(struct connection *c, int64_t at);

/* upgrade.c */
void send_request(struct connection *c);
size_t read_response(struct connection *c, const uint8_t *bytes, size_t size);

/* frames.c */
void read_frames(struct connection *c, const uint8_t *bytes, size_t size, int64_t at);
