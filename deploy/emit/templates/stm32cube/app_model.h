/* @{model}, for a main.c. @{arena} bytes of arena, planned for @{target}. */
#ifndef @{prefix}_APP_MODEL_H_
#define @{prefix}_APP_MODEL_H_

#ifdef __cplusplus
extern "C" {
#endif

/* Call it once, when clocks, caches and the UART of DebugLog() are set up. 0: the model is not
 * the one that was planned, or the arena does not suffice; the log has the reason. */
int app_model_setup(void);

/* One inference. 0: it failed. */
int app_model_run(void);

#ifdef __cplusplus
}
#endif

#endif /* @{prefix}_APP_MODEL_H_ */
