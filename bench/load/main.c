/*
 * load: many WebSocket clients in one thread, faster than any server in Python.
 *
 * Every connection keeps DEPTH messages under way (or all share a fixed RATE), every message
 * differs from its neighbours in payload and mask, and every byte of every echo is compared.
 * With --handshakes, every connection is closed as soon as it is open, and made anew. The answer
 * is one line of JSON on standard output. Built and run by generator.py; `load --help` lists the
 * options.
 *
 * Closed loop (no --rate): latency is from the write to the echo. Fixed rate: from the moment
 * at which the message was due, so that a stalled server cannot hide behind a stalled client.
 */
#include "load.h"

#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#define MAX_OPENING 64  /* handshakes at once: under every server's listen backlog */
#define OPEN_TIMEOUT 60 /* seconds for all handshakes together */
#define DRAIN_TIMEOUT 3 /* seconds for the echoes still under way, and for the closing */
#define SESSION_TIMEOUT 3 /* seconds for the first TLS session, if any is to come */

struct options options = {.host = "127.0.0.1", .path = "/", .connections = 1, .depth = 1,
                          .core = -1, .size = 64, .duration = 3, .warm_up = 1};
struct connection *connections;
SSL_CTX *tls;
int poller, opened, opening, started, closed;
bool refilling, measuring;
uint64_t messages, errors, packed_messages, packed_bytes, resumptions;

static int timer;
static int64_t waited;

int64_t now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * SECOND + t.tv_nsec;
}

void die(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    fputs("load: ", stderr);
    vfprintf(stderr, format, arguments);
    fputs("\n", stderr);
    va_end(arguments);
    exit(1);
}

/* One turn of the loop; true when standard input (or the timer) has something. */
static bool turn(int64_t until) {
    static struct epoll_event events[256];
    bool woken = false;
    int64_t before = now(), left = until - before;
    int timeout = left <= 0 ? 0 : (int)((left + 999999) / 1000000);
    int count = epoll_wait(poller, events, 256, timeout);
    waited += now() - before;
    if (count < 0 && errno != EINTR) die("epoll_wait: %s", strerror(errno));
    for (int i = 0; i < count; i++) {
        if (events[i].data.ptr)
            handle(events[i].data.ptr, events[i].events);
        else
            woken = true;
    }
    return woken;
}

/* Phases of a run. */

static double opening_seconds;

static void open_all(void) {
    int64_t began = now(), until = began + OPEN_TIMEOUT * SECOND;
    while (opened + closed < options.connections) {
        for (int i = 0; i < options.connections && started < options.connections; i++) {
            if (opening >= MAX_OPENING && !options.storm) break;
            if (connections[i].state == UNUSED) start(connections + i);
        }
        if (now() > until) die("%d of %d connections opened in %d s", opened,
                               options.connections, OPEN_TIMEOUT);
        turn(now() + SECOND / 10);
        if (errors) die("not every connection opened");
    }
    opening_seconds = (double)(now() - began) / 1e9;
}

static bool is_drained(void) {
    for (int i = 0; i < options.connections; i++)
        if (connections[i].state == OPEN && connections[i].received < connections[i].sent) return false;
    return true;
}

static void drain(void) {
    int64_t until = now() + DRAIN_TIMEOUT * SECOND;
    while (!is_drained() && now() < until) turn(now() + SECOND / 100);
    for (int i = 0; i < options.connections; i++)
        if (connections[i].state == OPEN && connections[i].received < connections[i].sent)
            fail(connections + i, "an echo never came");
}

static void close_all(void) {
    for (int i = 0; i < options.connections; i++) {
        struct connection *c = connections + i;
        if (c->state != OPEN) continue;
        send_close(c);
        flush(c);
    }
    for (int64_t until = now() + DRAIN_TIMEOUT * SECOND; closed < started && now() < until;)
        turn(now() + SECOND / 10);
}

/* Of all watched processes together. */
static double server_cpu_seconds(void) {
    double seconds = 0;
    for (int i = 0; i < options.watched_count; i++) {
        clockid_t clock;
        struct timespec t;
        if (clock_getcpuclockid(options.watched[i], &clock) || clock_gettime(clock, &t))
            die("process %d has gone", options.watched[i]);
        seconds += (double)t.tv_sec + (double)t.tv_nsec / 1e9;
    }
    return seconds;
}

static double cpu_seconds(void) {
    struct timespec t = {0};
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* Seconds that a process was ready to run and waited for a core: others were in the way. */
static double queued_seconds(int pid) {
    char path[64];
    unsigned long long ran = 0, queued = 0;
    snprintf(path, sizeof path, "/proc/%d/schedstat", pid);
    FILE *file = fopen(path, "r");
    if (!file) return 0;
    if (fscanf(file, "%llu %llu", &ran, &queued) != 2) queued = 0;
    fclose(file);
    return (double)queued / 1e9;
}

static double server_queued_seconds(void) {
    double seconds = 0;
    for (int i = 0; i < options.watched_count; i++) seconds += queued_seconds(options.watched[i]);
    return seconds;
}

/* Keep all connections on their way: up, open, and at once down again. */
static void shake_all_until(int64_t until) {
    int next = 0;
    while (now() < until) {
        if (errors) die("a handshake failed");
        for (int i = 0; i < options.connections && opening < MAX_OPENING; i++) {
            struct connection *c = connections + next;
            next = (next + 1) % options.connections;
            if (c->state == UNUSED || c->state == CLOSED) start(c);
        }
        turn(until);
    }
}

static void exchange_until(int64_t until) {
    static int64_t began;
    static uint64_t due; /* messages of the schedule that are sent */
    while (now() < until) {
        if (closed == options.connections) die("every connection failed");
        turn(until);
        if (options.rate <= 0) continue;
        int64_t at = now(), next;
        if (!began) began = at;
        for (; (next = began + (int64_t)((double)due * 1e9 / options.rate)) <= at; due++) {
            struct connection *c = connections + due % (uint64_t)options.connections;
            if (c->state != OPEN) continue;
            if (c->sent - c->received == (uint64_t)options.depth) break;
            send_message(c, next);
            flush(c);
        }
        if (next <= at) next = at + 100000; /* all its places are taken: look again soon */
        struct itimerspec alarm = {.it_value = {next / SECOND, next % SECOND}};
        uint64_t ticks;
        if (read(timer, &ticks, sizeof ticks) < 0 && errno != EAGAIN) die("timer: %s", strerror(errno));
        timerfd_settime(timer, TFD_TIMER_ABSTIME, &alarm, NULL);
    }
}

static void run_until(int64_t until) {
    if (options.handshakes)
        shake_all_until(until);
    else
        exchange_until(until);
}

static void begin_messages(void) {
    if (options.rate > 0) {
        struct epoll_event event = {.events = EPOLLIN};
        timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK);
        epoll_ctl(poller, EPOLL_CTL_ADD, timer, &event);
        struct itimerspec soon = {.it_value = {0, 1}};
        timerfd_settime(timer, 0, &soon, NULL);
        return;
    }
    refilling = true;
    for (int i = 0; i < options.connections; i++) {
        for (int j = 0; j < options.depth; j++) send_message(connections + i, now());
        flush(connections + i);
    }
}

static void measure(void) {
    if (!options.handshakes) begin_messages();
    for (int64_t until = now() + SESSION_TIMEOUT * SECOND;
         options.resume && !has_session() && now() < until;)
        run_until(now() + SECOND / 100);
    run_until(now() + (int64_t)(options.warm_up * 1e9));
    double cpu = cpu_seconds(), server_cpu = server_cpu_seconds();
    double queued = queued_seconds(getpid()), server_queued = server_queued_seconds();
    int64_t began = now();
    waited = 0;
    measuring = true;
    run_until(began + (int64_t)(options.duration * 1e9));
    measuring = refilling = false;
    double seconds = (double)(now() - began) / 1e9, busy = 1 - (double)waited / 1e9 / seconds;
    cpu = cpu_seconds() - cpu;
    server_cpu = server_cpu_seconds() - server_cpu;
    queued = queued_seconds(getpid()) - queued;
    server_queued = server_queued_seconds() - server_queued;
    if (!options.handshakes) drain();
    printf("{\"messages\": %" PRIu64 ", \"seconds\": %.6f, \"rate\": %.1f, \"p50_us\": %.1f, "
           "\"p99_us\": %.1f, \"p999_us\": %.1f, \"max_us\": %.1f, \"errors\": %" PRIu64
           ", \"packed\": %" PRIu64 ", \"packed_bytes\": %" PRIu64 ", \"resumed\": %" PRIu64
           ", \"cpu_seconds\": %.6f, \"busy\": %.4f, \"queued_seconds\": %.6f, "
           "\"server_cpu_seconds\": %.6f, \"server_queued_seconds\": %.6f}\n",
           messages, seconds, (double)messages / seconds, microseconds_at(0.5),
           microseconds_at(0.99), microseconds_at(0.999), largest_microseconds(), errors,
           packed_messages, packed_bytes, resumptions, cpu, busy, queued, server_cpu, server_queued);
}

/* Hold the connections open, answer pings, and end with standard input. */
static void idle(void) {
    struct epoll_event event = {.events = EPOLLIN};
    if (options.touch) {
        for (int i = 0; i < options.connections; i++) {
            send_message(connections + i, now());
            flush(connections + i);
        }
        drain();
    }
    if (epoll_ctl(poller, EPOLL_CTL_ADD, STDIN_FILENO, &event) < 0)
        die("--idle needs a pipe as its standard input");
    printf("{\"open\": %d, \"errors\": %" PRIu64 ", \"seconds\": %.3f}\n", opened - closed, errors,
           opening_seconds);
    fflush(stdout);
    for (int64_t until = now() + (int64_t)(options.duration * 1e9); now() < until;)
        if (turn(until)) break;
    epoll_ctl(poller, EPOLL_CTL_DEL, STDIN_FILENO, NULL);
}
static const char *const usage =
    "usage: load --port PORT [options]\n"
    "  --host ADDRESS      IPv4 address (127.0.0.1)      --tls           wss, without verification\n"
    "  --path PATH         of the request (/)            --binary        instead of text\n"
    "  --connections N     (1)                           --size BYTES    of a message (64)\n"
    "  --depth N           messages under way per connection (1; with --rate, at most)\n"
    "  --rate N            messages per second, all connections together (as fast as it goes)\n"
    "  --duration SECONDS  measured (3)                  --warm-up SECONDS  before (1)\n"
    "  --storm             with --idle: all at once; a client that fails tries again\n"
    "  --handshakes        open, close, and again; a message is then a handshake\n"
    "  --resume            TLS sessions, from connection to connection\n"
    "  --compress          permessage-deflate, with text that can be compressed\n"
    "  --socketio          Socket.IO's greeting and framing around each message\n"
    "  --idle              only hold the connections until standard input ends\n"
    "  --touch             with --idle: one echo on each connection before\n"
    "  --core N            run on this core              --watch PID     measure it too (up to 8)\n";

static void watch_process(const char *number) {
    if (options.watched_count == MAX_WATCHED) die("more than %d processes to watch", MAX_WATCHED);
    options.watched[options.watched_count++] = atoi(number);
}

static void parse(int count, char **arguments) {
    static const struct option known[] = {
        {"host", 1, 0, 'h'},        {"port", 1, 0, 'p'},    {"path", 1, 0, 'P'},
        {"connections", 1, 0, 'n'}, {"size", 1, 0, 's'},    {"depth", 1, 0, 'd'},
        {"rate", 1, 0, 'r'},        {"duration", 1, 0, 't'}, {"warm-up", 1, 0, 'w'},
        {"core", 1, 0, 'c'},        {"watch", 1, 0, 'W'},   {"tls", 0, 0, 'T'},
        {"resume", 0, 0, 'R'},      {"binary", 0, 0, 'b'},  {"compress", 0, 0, 'C'},
        {"socketio", 0, 0, 'S'},    {"idle", 0, 0, 'i'},    {"handshakes", 0, 0, 'H'},
        {"touch", 0, 0, 'u'},       {"storm", 0, 0, 'o'},   {"help", 0, 0, '?'},    {0}};
    for (int letter; (letter = getopt_long(count, arguments, "", known, NULL)) != -1;) {
        switch (letter) {
        case 'h': options.host = optarg; break;
        case 'p': options.port = atoi(optarg); break;
        case 'P': options.path = optarg; break;
        case 'n': options.connections = atoi(optarg); break;
        case 's': options.size = strtoul(optarg, NULL, 10); break;
        case 'd': options.depth = atoi(optarg); break;
        case 'r': options.rate = atof(optarg); break;
        case 't': options.duration = atof(optarg); break;
        case 'w': options.warm_up = atof(optarg); break;
        case 'c': options.core = atoi(optarg); break;
        case 'W': watch_process(optarg); break;
        case 'T': options.tls = true; break;
        case 'R': options.resume = true; break;
        case 'b': options.binary = true; break;
        case 'C': options.compress = true; break;
        case 'S': options.socketio = true; break;
        case 'i': options.idle = true; break;
        case 'H': options.handshakes = true; break;
        case 'o': options.storm = true; break;
        case 'u': options.touch = true; break;
        default: fputs(usage, stderr); exit(2);
        }
    }
    bool is_odd = (options.socketio && (options.binary || options.compress)) ||
                  (options.idle && options.handshakes);
    if (options.port < 1 || options.connections < 1 || options.depth < 1 || optind < count || is_odd) {
        fputs(usage, stderr);
        exit(2);
    }
    options.address.sin_family = AF_INET;
    options.address.sin_port = htons((uint16_t)options.port);
    if (inet_pton(AF_INET, options.host, &options.address.sin_addr) != 1)
        die("%s is no IPv4 address", options.host);
}

static void make_tls(void) {
    tls = SSL_CTX_new(TLS_client_method());
    if (!tls) die("OpenSSL: no context");
    SSL_CTX_set_verify(tls, SSL_VERIFY_NONE, NULL);
    SSL_CTX_set_read_ahead(tls, 1); /* one read(2) per record instead of two */
    SSL_CTX_set_mode(tls, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
                              SSL_MODE_RELEASE_BUFFERS);
    int mode = options.resume ? SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL : SSL_SESS_CACHE_OFF;
    SSL_CTX_set_session_cache_mode(tls, mode);
}

int main(int count, char **arguments) {
    parse(count, arguments);
    signal(SIGPIPE, SIG_IGN); /* OpenSSL writes with write(2) */
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    if (files.rlim_max < (rlim_t)options.connections + 16)
        die("%d connections need `ulimit -n %d`; it is %llu", options.connections,
            options.connections + 16, (unsigned long long)files.rlim_max);
    if (options.core >= 0) {
        cpu_set_t set;
        CPU_ZERO(&set);
        CPU_SET((size_t)options.core, &set);
        if (sched_setaffinity(0, sizeof set, &set) < 0) die("no core %d", options.core);
    }
    if (options.tls) make_tls();
    poller = epoll_create1(EPOLL_CLOEXEC);
    connections = calloc((size_t)options.connections, sizeof *connections);
    if (poller < 0 || !connections) die("no memory for %d connections", options.connections);
    srand((unsigned)now());
    make_messages();
    if (!options.handshakes) open_all();
    if (options.idle)
        idle();
    else
        measure();
    close_all();
    return errors ? 1 : 0;
}
