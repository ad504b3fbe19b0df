#ifndef TESTS_TFLITE_SCHEMA_H_
#define TESTS_TFLITE_SCHEMA_H_
namespace tflite {
struct Model;
inline const Model* GetModel(const void* bytes) { return static_cast<const Model*>(bytes); }
}  // namespace tflite
#endif
