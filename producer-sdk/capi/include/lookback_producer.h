/* lookback_producer.h: the library that a camera links to.
 *
 * Conventions
 *   - Objects are opaque. `lookback_T_new` makes one, `lookback_T_free` ends it and takes NULL too.
 *   - Functions return LOOKBACK_OK or why not; lookback_last_error() then has the text.
 *   - Results come last, and are written only on LOOKBACK_OK.
 *   - Every pointer is checked for NULL. None may be NULL unless it says so.
 *   - What is handed in is copied: texts (UTF-8, ended by NUL) and bytes may go when a call returns.
 *   - `const` means that an object may be used by several threads at once; without it, by one.
 *   - No panic passes this border: it becomes LOOKBACK_PANICKED. (A library that is built to abort
 *     on panic ends the process instead.)
 *   - Times are milliseconds since 1970-01-01 UTC, by the camera's clock.
 */
#ifndef LOOKBACK_PRODUCER_H
#define LOOKBACK_PRODUCER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef enum lookback_status {
    LOOKBACK_OK = 0,
    /* A pointer that must not be NULL is. */
    LOOKBACK_NULL_POINTER = 1,
    /* A value is out of range, or text is not UTF-8. */
    LOOKBACK_INVALID_ARGUMENT = 2,
    /* The configuration already became a producer. */
    LOOKBACK_CONFIG_USED = 3,
    /* The producer cannot start as configured. */
    LOOKBACK_START_FAILED = 4,
    /* The frame was not taken; what was taken before it is not touched. */
    LOOKBACK_FRAME_REFUSED = 5,
    /* The producer was stopped. */
    LOOKBACK_STOPPED = 6,
    /* The fragment has as many tags as it may. */
    LOOKBACK_TAGS_FULL = 7,
    /* Called from within the event callback, where it would wait for itself. */
    LOOKBACK_IN_CALLBACK = 8,
    /* A defect of the library: free the object and go on without it. */
    LOOKBACK_PANICKED = 9
} lookback_status;

/* Why the last call that failed on this thread did; never NULL. It stays valid until the next
 * failure on this thread. */
const char *lookback_last_error(void);

/* Events -------------------------------------------------------------------------------------- */

typedef enum lookback_event_kind {
    /* Media can be sent. */
    LOOKBACK_CONNECTED = 1,
    /* A connection ended or was not made: text says why; the next attempt is in retry_in_ms. */
    LOOKBACK_DISCONNECTED = 2,
    /* The service keeps the fragment durably: start, end, count bytes; text is its number. */
    LOOKBACK_FRAGMENT_PERSISTED = 3,
    /* The service refused it for now (error_id, text); it is sent again. */
    LOOKBACK_FRAGMENT_REFUSED = 4,
    /* It will not be sent any more: text says why; error_id where the service refused it. */
    LOOKBACK_FRAGMENT_DROPPED = 5,
    /* count frames were left out before they became part of a fragment: text says why. */
    LOOKBACK_FRAMES_SKIPPED = 6,
    /* The service stored the announcement of a segment: start, end; text is its id. */
    LOOKBACK_SEGMENT_ANNOUNCED = 7,
    /* The service will not take it (text); the footage is kept all the same. */
    LOOKBACK_SEGMENT_REJECTED = 8,
    /* Announcements did not get through (text); they are sent again after retry_in_ms. */
    LOOKBACK_ANNOUNCE_FAILED = 9,
    /* count events were lost, since the callback was too slow. */
    LOOKBACK_EVENTS_MISSED = 10,
    /* One that this header does not know: text describes it. */
    LOOKBACK_OTHER = 11
} lookback_event_kind;

/* What a kind does not use is 0, or empty. */
typedef struct lookback_event {
    lookback_event_kind kind;
    /* A Kinesis Video Streams error id, such as 4004. */
    uint32_t error_id;
    int64_t start_ms;
    int64_t end_ms;
    uint64_t count;
    uint64_t retry_in_ms;
    /* Never NULL; valid until the callback returns. */
    const char *text;
} lookback_event;

/* Called on the producer's own thread, one event at a time; must not block for long, nor throw. */
typedef void (*lookback_on_event)(void *context, const lookback_event *event);

/* Configuration ------------------------------------------------------------------------------- */

typedef struct lookback_config lookback_config;

/* `endpoint` is the service's own URL, such as https://lookback.example; `token` the device's. */
lookback_status lookback_config_new(const char *endpoint, const char *token,
                                    lookback_config **config);

/* Needed also after lookback_producer_new. */
void lookback_config_free(lookback_config *config);

/* The device's stream; "main" unless set. */
lookback_status lookback_config_stream(lookback_config *config, const char *name);

/* Sends media there without asking the service where to. */
lookback_status lookback_config_media(lookback_config *config, const char *endpoint,
                                      const char *media_stream_name);

/* Whether segments are announced to the service; they are unless set. */
lookback_status lookback_config_announce(lookback_config *config, bool announce);

/* Certificates, PEM, that a TLS server is trusted by; Mozilla's, built in, unless set. */
lookback_status lookback_config_roots(lookback_config *config, const uint8_t *pem, size_t pem_len);

/* A fragment ends at the first key frame that is this far from its start: 1,000 to 15,000 ms, 2,000
 * unless set. */
lookback_status lookback_config_fragment(lookback_config *config, uint32_t duration_ms);

/* How much footage waits for the network; 16 MiB and 120,000 ms unless set. */
lookback_status lookback_config_buffer(lookback_config *config, size_t bytes, uint32_t duration_ms);

/* `context` is passed back as it is, and may be NULL. It is used on another thread, until
 * lookback_producer_free has returned. */
lookback_status lookback_config_on_event(lookback_config *config, lookback_on_event on_event,
                                         void *context);

/* 1 to 3 tracks; `track` becomes the number that frames name. Fragments are cut at key frames of the
 * first video track.
 *
 * H.264 and H.265 with start codes (Annex B), whose parameter sets come with the key frames. */
lookback_status lookback_config_add_h264(lookback_config *config, uint64_t *track);
lookback_status lookback_config_add_h265(lookback_config *config, uint64_t *track);

/* With lengths in the place of start codes; `record` is the avcC or hvcC (ISO/IEC 14496-15). */
lookback_status lookback_config_add_h264_length_prefixed(lookback_config *config,
                                                         const uint8_t *record, size_t record_len,
                                                         uint64_t *track);
lookback_status lookback_config_add_h265_length_prefixed(lookback_config *config,
                                                         const uint8_t *record, size_t record_len,
                                                         uint64_t *track);

/* AAC without ADTS headers; `audio_config` is its AudioSpecificConfig (ISO/IEC 14496-3). */
lookback_status lookback_config_add_aac(lookback_config *config, const uint8_t *audio_config,
                                        size_t audio_config_len, uint64_t *track);

#define LOOKBACK_MU_LAW 0
#define LOOKBACK_A_LAW 1

lookback_status lookback_config_add_g711(lookback_config *config, uint32_t law,
                                         uint32_t sampling_hz, uint32_t channels, uint64_t *track);

/* Producer ------------------------------------------------------------------------------------ */

typedef struct lookback_producer lookback_producer;

/* The producer's state, and totals since it started. */
typedef struct lookback_health {
    bool connected;
    uint64_t connects;
    /* Connections that ended otherwise than by plan, and attempts that failed. */
    uint64_t failures;
    uint64_t frames;
    uint64_t frames_skipped;
    uint64_t fragments_persisted;
    uint64_t bytes_persisted;
    uint64_t fragments_dropped;
    uint64_t bytes_written;
    uint64_t fragments_waiting;
    uint64_t bytes_waiting;
    /* Of footage. */
    uint64_t waiting_ms;
    uint64_t segments_announced;
    uint64_t segments_rejected;
    uint64_t segments_waiting;
} lookback_health;

typedef struct lookback_report {
    lookback_health health;
    /* Fragments that were neither persisted nor told as dropped. */
    uint64_t undelivered;
    /* Segments that were not announced, though their footage is kept. */
    uint64_t unannounced;
} lookback_report;

/* Starts a thread. The network need not be there yet. Uses the configuration up, also where it
 * fails. */
lookback_status lookback_producer_new(lookback_config *config, lookback_producer **producer);

/* Stops at once unless lookback_producer_stop was called. No other call may be going on; within the
 * event callback it does nothing. */
void lookback_producer_free(lookback_producer *producer);

/* Takes one coded picture or audio packet, in decode order; `captured_at_ms` is its presentation
 * time. Never waits: where there is no room the oldest footage gives way, and an event says so. */
lookback_status lookback_producer_put_frame(const lookback_producer *producer, uint64_t track,
                                            int64_t captured_at_ms, bool key, const uint8_t *data,
                                            size_t data_len);

/* For sources that can wait, such as files. `room` is false where there was none in time. */
lookback_status lookback_producer_wait_for_room(const lookback_producer *producer,
                                                uint32_t patience_ms, bool *room);

/* Ends the open fragment, so that it is kept without waiting for more. The next video frame must be
 * a key frame. */
lookback_status lookback_producer_end_fragment(const lookback_producer *producer);

/* Adds a tag to the open fragment, or else to the next: a name of 1 to 128 bytes, a value of at most
 * 256, up to 9 of them. */
lookback_status lookback_producer_put_tag(const lookback_producer *producer, const char *name,
                                          const char *value);

/* Marks the open fragment, and those that begin before `until_ms`, as alarm footage: it is the last
 * to be dropped when there is no room. */
lookback_status lookback_producer_mark_alarm(const lookback_producer *producer, int64_t until_ms);

lookback_status lookback_producer_health(const lookback_producer *producer,
                                         lookback_health *health);

/* Sends what there is, for at most `patience_ms`, and ends; waits for calls on other threads. The
 * producer must still be freed. */
lookback_status lookback_producer_stop(const lookback_producer *producer, uint32_t patience_ms,
                                       lookback_report *report);

#ifdef __cplusplus
}
#endif

#endif
