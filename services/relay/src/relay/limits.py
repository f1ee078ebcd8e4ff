"""Every limit of the relay, by name, with its reason.

Sizes are bytes, times are seconds. Each is tested at n and at n + 1. What an operator may change is a setting
(``settings.py``) whose default stands here.
"""

from __future__ import annotations

KIB, MIB, GIB = 1024, 1024**2, 1024**3
MINUTE, HOUR, DAY = 60.0, 3600.0, 86400.0

# --- a message ------------------------------------------------------------------------------------------------------
MESSAGE_SIZE = 50 * MIB  # default of RELAY_MESSAGE_SIZE_LIMIT; the most that any provider takes (SMTP2GO, Scaleway)
SIZE_RESERVE = 64 * KIB  # between what we announce and what a provider takes: the fields we add count there too
HEADER_SIZE = 256 * KIB  # Postfix: 102,400; long DKIM, ARC and References chains of forwarded mail need more
HEADER_KEPT = 2 * HEADER_SIZE  # in the spool, with the fields we add (Received, and the originals of what is rewritten)
HEADER_LINES = 1_000
BODY_LINE = 1 * MIB  # RFC 5321 says 998 + CRLF; real clients send HTML of 100 KiB and more in one line
RECEIVED_FIELDS = 50  # Postfix's hopcount_limit: more is a loop
RECIPIENTS = 100  # RFC 5321 4.5.3.1.8 asks for at least 100
RECIPIENTS_MAX = 1_000  # what RELAY_RECIPIENTS may be raised to; Postfix's smtpd_recipient_limit

# --- an account -----------------------------------------------------------------------------------------------------
RECIPIENTS_PER_DAY = 500  # a stolen password must not empty the provider's account
RECIPIENTS_PER_HOUR = 100

# --- a session ------------------------------------------------------------------------------------------------------
COMMAND_LINE = 2_048  # RFC 5321 wants 512; MAIL and RCPT with all their parameters stay far below this
AUTH_LINE = 12_288  # RFC 4954, section 4
AUTH_FAILURES = 3  # per connection, then 421
PROTOCOL_ERRORS = 20  # Postfix's smtpd_hard_error_limit
REFUSALS = 1_000  # of what policy forbids, on one connection: a line of the log each; a message's recipients at most
COMMANDS_IN_A_ROW = 32  # of one client, that are there already; then it is the others' turn
CONNECTIONS = 1_000  # default of RELAY_CONNECTIONS
CONNECTIONS_PER_ADDRESS = 50  # Postfix's smtpd_client_connection_count_limit
ACCOUNT_SHARE_OF_CONNECTIONS = 0.5  # of RELAY_CONNECTIONS: 500, more than a firm's server opens; the rest for others
TLS_HANDSHAKE_TIME = 10.0
IDLE_BEFORE_AUTH = 60.0
TIME_BEFORE_AUTH = 5 * MINUTE  # in all, however busy: three wrong passwords with their delayed answers fit in
COMMANDS_BEFORE_AUTH = 100  # Postfix's smtpd_junk_command_limit; a client needs five
IDLE_AFTER_AUTH = 300.0  # RFC 5321 4.5.3.2.7
TIME_BEFORE_DATA = 10 * MINUTE  # from MAIL, in all; RCPT and DATA may each take five (RFC 5321 4.5.3.2); room is kept
DATA_RATE = 500  # bytes a second, averaged over a minute; Postfix's smtpd_min_data_rate
DATA_TIME = 2 * HOUR
CLOSING_TIME = 5.0  # that a client has to take our last words and to close its end; then it is cut off

# --- passwords ------------------------------------------------------------------------------------------------------
ARGON2_MEMORY_KIB, ARGON2_TIME, ARGON2_LANES = 19 * KIB, 2, 1  # OWASP's Argon2id minimum; 30 ms on a small server
PASSWORD_CHECKS_AT_ONCE = 2  # brute force must not take both cores
PASSWORD_BYTES = 1_024

# --- the spool ------------------------------------------------------------------------------------------------------
CHUNK = 256 * KIB
INLINE = 64 * KIB  # a body up to this size is handed to delivery with its claim
REPEAT_WINDOW = 10 * MINUTE  # default of RELAY_REPEAT_MINUTES: Postfix tries again after 5, Exim after 15
REPEATS = 65_536  # of the last messages are known again: 20 MB at most, and ten minutes at 100 messages a second
UPLOADS_IN_FLIGHT = (
    32 * MIB
)  # chunks of all uploads that wait for the writer: what bounds the memory, whatever clients do
PART = 64 * KIB  # of a message, in memory until more of it comes: a client that stalls may hold less than this
PIECES = 256  # that a part is kept in: fifty bytes go with each, be it one byte itself
BODIES_IN_PARTS = 64  # that may gather a whole chunk; others hand over each part, so 16 MiB in all
HEADERS_IN_PARTS = 32  # larger than a part and not yet whole; then the oldest of an account makes way: 8 MiB in all
CHUNKS_IN_FLIGHT = 3  # of one upload: enough that network and disk work at the same time
BALLAST = 64 * MIB  # given up when the disk is full, so that outcomes can still be recorded
KEPT = 7 * DAY  # the body of failed mail: so long `retry` can send it again. Whoever is away for a week misses it
KEPT_SHARE = 0.1  # of the room for mail, which all of these bodies together may take
REPLY_KEPT = 500  # characters of a provider's reply
HISTORY = 30 * DAY  # default of RELAY_HISTORY_DAYS: how long ended messages can be traced

# --- delivery -------------------------------------------------------------------------------------------------------
LIFETIME = 5 * DAY  # RFC 5321 4.5.4.1: 4-5 days
EXPIRY_AFTER_START = 4 * HOUR  # nothing expires sooner: three attempts or so, also for what grew old while we were off
DELAY_NOTICE_AFTER = 4 * HOUR
CLOCK_JUMP = 1 * HOUR  # a jump larger than this suspends expiry
DRAIN_SUBMISSION = 60.0  # on SIGTERM: open DATA may finish
DRAIN_DELIVERY = 120.0  # on SIGTERM: final replies may come
REPLY_TIME = 5 * MINUTE  # RFC 5321 4.5.3.2
FINAL_REPLY_TIME = 10 * MINUTE  # after the final dot, RFC 5321 4.5.3.2.6
CONNECTIONS_TO_PROVIDER = (
    10  # Postmark asks for at most 10 an address; SendGrid allows 10,000; ten fill any small server's uplink
)
MESSAGES_PER_CONNECTION = 100  # SendGrid allows 5,000; a fresh login now and then also picks up a changed name or key
SECONDS_PER_CONNECTION = 1 * HOUR  # a login that old is renewed: names, keys and addresses change
IDLE_CONNECTION = 30.0  # kept open that long for the next message; then QUIT
BYTES_IN_FLIGHT = (
    64 * MIB
)  # of messages on their way to one provider at a time: one large message, or very many small ones
CONNECT_TIME = 30.0
DOUBT_WAIT = 15 * MINUTE  # before a message is sent again whose final dot got no answer
DOUBTS = 2  # how often it is sent again
CONNECTION_BACK = 10 * MINUTE  # after a provider called our connections too many, until one more is tried again
ALONE = 1 * MINUTE  # that all else waits while mail is tried at which the relay seems to die; and before, for the rest
PAUSE_FIRST, PAUSE_MOST = 5.0, 5 * MINUTE  # after a provider could not be reached, or said that it is busy
PAUSE_DOUBT_MOST = 1 * HOUR  # after it gave no answer to a whole message: each that tries may arrive twice
PAUSE_KEY_FIRST, PAUSE_KEY_MOST = 5 * MINUTE, 1 * HOUR  # after it refused the login: soon, since somebody mends it
PAUSE_USED_UP = 1 * HOUR  # after it said so, where its clock is not known
PAUSE_NOT_SET_UP = 1 * HOUR  # for one sender; DNS changes take about that long to be seen
PAUSE_LAPSES = 1 * HOUR  # after its end, for one of a sender's that no mail has asked about
STRANGERS = 100  # senders that a provider does not know, at most: who puts a new address into each mail fills no memory
GUESSES = 3  # different messages that must meet what is only guessed from a reply's words
GUESS_AGE = 1 * HOUR  # after which such a guess is forgotten: those of different days are no run
ROUNDS_TO_BELIEVE = 2  # so often one message must meet such a guess before its sender is told: after a minute, at best
RUN_OF_FAILURES = 10  # messages in a row that a provider puts off without a reason that we know
PORT_TIME = 10.0  # for a port that another one follows; a filtered one swallows what we send
OVERDUE_SWEEP = 10 * MINUTE  # how often to look for mail that no provider could be tried for until it was too old
REPLY_LINE, REPLY_LINES = 8 * KIB, 128  # of a provider; RFC 5321 says 512 bytes, real ones are longer
REPLY_SIZE = 64 * KIB  # of all its lines, as far as they are read; SES names every recipient that it refuses
SUBJECT_READ = 16 * KIB  # of a Subject, of which 200 characters are shown: an encoded word of 75 bytes for each
NOTICE_HEADER = 64 * KIB  # of the failed message's header, sent back with a notice
CAPTURED_FILES, CAPTURED_BYTES = 1_000, 1 * GIB
