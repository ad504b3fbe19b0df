#include "plan_check.h"

#include <string.h>

/*
 * A flatbuffer is a web of offsets. A table begins with a signed distance back to its
 * vtable; the vtable holds, for each field, the distance of the field from the table,
 * or 0 if the field is absent. All numbers are little endian. Field numbers are those
 * of the TFLite schema, version 3.
 */
enum {
  MODEL_OPERATOR_CODES = 1,
  MODEL_SUBGRAPHS = 2,
  MODEL_BUFFERS = 4,
  MODEL_METADATA = 6,
  SUBGRAPH_TENSORS = 0,
  TENSOR_SHAPE = 0,
  TENSOR_TYPE = 1,
  BUFFER_DATA = 0,
  OPERATOR_CODE_DEPRECATED = 0,
  OPERATOR_CODE_BUILTIN = 3,
  METADATA_NAME = 0,
  METADATA_BUFFER = 1
};

static const char kPlanName[] = "OfflineMemoryAllocation";

/* The bytes, and whether everything read so far was inside them. */
typedef struct {
  const unsigned char *data;
  size_t size;
  int sound;
} reader;

typedef struct {
  size_t first; /* position of the first element */
  uint32_t length;
} vector;

/* Whether [at, at + bytes) is inside; remembers if it ever was not. */
static int inside(reader *r, size_t at, size_t bytes) {
  if (at > r->size || bytes > r->size - at) {
    r->sound = 0;
  }
  return r->sound;
}

static uint32_t read_u16(reader *r, size_t at) {
  if (!inside(r, at, 2)) {
    return 0;
  }
  return (uint32_t)r->data[at] | (uint32_t)r->data[at + 1] << 8;
}

static uint32_t read_u32(reader *r, size_t at) {
  if (!inside(r, at, 4)) {
    return 0;
  }
  return (uint32_t)r->data[at] | (uint32_t)r->data[at + 1] << 8 |
         (uint32_t)r->data[at + 2] << 16 | (uint32_t)r->data[at + 3] << 24;
}

static int32_t read_i32(reader *r, size_t at) {
  uint32_t bits = read_u32(r, at);
  int32_t value;
  memcpy(&value, &bits, sizeof value);
  return value;
}

/* Follows the unsigned offset stored at `at`. */
static size_t follow(reader *r, size_t at) {
  uint32_t distance = read_u32(r, at);
  if (!inside(r, at, distance)) {
    return 0;
  }
  return at + distance;
}

/* Position of a field of a table, or 0 if the table does not have it. */
static size_t field(reader *r, size_t table, unsigned number) {
  int32_t back = read_i32(r, table);
  size_t vtable;
  uint32_t distance;
  if (!r->sound) {
    return 0;
  }
  if (back >= 0) {
    if ((size_t)back > table) {
      r->sound = 0;
      return 0;
    }
    vtable = table - (size_t)back;
  } else {
    vtable = table + (size_t)(-(int64_t)back);
  }
  if (4 + 2 * (number + 1) > read_u16(r, vtable)) {
    return 0;
  }
  distance = read_u16(r, vtable + 4 + 2 * (size_t)number);
  if (distance == 0 || !inside(r, table, distance)) {
    return 0;
  }
  return table + distance;
}

/* The vector that a field of a table points to; empty if the field is absent. */
static vector vector_field(reader *r, size_t table, unsigned number, size_t stride) {
  vector v = {0, 0};
  size_t at = field(r, table, number);
  if (at == 0) {
    return v;
  }
  at = follow(r, at);
  v.length = read_u32(r, at);
  v.first = at + 4;
  if (!r->sound || !inside(r, v.first, 0) || v.length > (r->size - v.first) / stride) {
    r->sound = 0;
    v.length = 0;
  }
  return v;
}

static size_t table_at(reader *r, vector v, uint32_t index) {
  return follow(r, v.first + 4 * (size_t)index);
}

static int is_plan(reader *r, size_t metadata) {
  vector name = vector_field(r, metadata, METADATA_NAME, 1);
  return r->sound && name.length == sizeof kPlanName - 1 &&
         memcmp(r->data + name.first, kPlanName, sizeof kPlanName - 1) == 0;
}

/* Bytes of one element of a TensorType, or 0 for types that never live in an arena. */
static uint32_t element_bytes(uint32_t type) {
  switch (type) {
    case 0:  /* float32 */
    case 2:  /* int32 */
    case 13: /* resource */
    case 15: /* uint32 */
      return 4;
    case 3: /* uint8 */
    case 6: /* bool */
    case 9: /* int8 */
      return 1;
    case 1:  /* float16 */
    case 7:  /* int16 */
    case 16: /* uint16 */
      return 2;
    case 4:  /* int64 */
    case 8:  /* complex64 */
    case 10: /* float64 */
    case 12: /* uint64 */
      return 8;
    default:
      return 0;
  }
}

/* Bytes of a tensor; 0 if its shape overflows or its type is not known. */
static uint32_t tensor_bytes(reader *r, size_t tensor) {
  vector shape = vector_field(r, tensor, TENSOR_SHAPE, 4);
  size_t type = field(r, tensor, TENSOR_TYPE);
  uint32_t total, i;
  if (type != 0 && !inside(r, type, 1)) {
    return 0;
  }
  total = element_bytes(type == 0 ? 0 : r->data[type]);
  for (i = 0; i < shape.length; ++i) {
    uint32_t extent = read_u32(r, shape.first + 4 * (size_t)i);
    if (extent != 0 && total > 0x7fffffffu / extent) {
      return 0;
    }
    total *= extent;
  }
  return total;
}

/* Finds the one plan among the metadata. */
static fmc_plan_status find_plan(reader *r, size_t model, vector *plan) {
  vector entries = vector_field(r, model, MODEL_METADATA, 4);
  vector buffers = vector_field(r, model, MODEL_BUFFERS, 4);
  int found = 0;
  uint32_t i;
  for (i = 0; i < entries.length; ++i) {
    size_t entry = table_at(r, entries, i);
    size_t at;
    uint32_t buffer;
    if (!is_plan(r, entry)) {
      continue;
    }
    if (found) {
      return FMC_PLAN_TWICE;
    }
    found = 1;
    at = field(r, entry, METADATA_BUFFER);
    buffer = at == 0 ? 0 : read_u32(r, at);
    if (!r->sound || buffer >= buffers.length) {
      return FMC_PLAN_CORRUPT;
    }
    *plan = vector_field(r, table_at(r, buffers, buffer), BUFFER_DATA, 1);
  }
  if (!r->sound) {
    return FMC_PLAN_CORRUPT;
  }
  return found ? FMC_PLAN_OK : FMC_PLAN_MISSING;
}

/* Visits the constants and the operator codes: a model that was cut off fails here. */
static void walk_rest(reader *r, size_t model) {
  vector buffers = vector_field(r, model, MODEL_BUFFERS, 4);
  vector codes = vector_field(r, model, MODEL_OPERATOR_CODES, 4);
  uint32_t i;
  for (i = 0; i < buffers.length && r->sound; ++i) {
    vector_field(r, table_at(r, buffers, i), BUFFER_DATA, 1);
  }
  for (i = 0; i < codes.length && r->sound; ++i) {
    size_t code = table_at(r, codes, i);
    size_t old = field(r, code, OPERATOR_CODE_DEPRECATED);
    size_t builtin = field(r, code, OPERATOR_CODE_BUILTIN);
    if (old != 0) {
      inside(r, old, 1);
    }
    if (builtin != 0) {
      inside(r, builtin, 4);
    }
  }
}

fmc_plan_status fmc_plan_check(const unsigned char *model, size_t model_bytes,
                               const int32_t *offsets, const int32_t *bytes,
                               uint32_t count, uint32_t *where) {
  reader r;
  vector subgraphs, tensors, plan = {0, 0};
  size_t root;
  uint32_t i, unused, all = 0;
  fmc_plan_status status;
  r.data = model;
  r.size = model_bytes;
  r.sound = 1;
  if (where == NULL) {
    where = &unused;
  }
  *where = 0;
  if (model == NULL || model_bytes < 8 || memcmp(model + 4, "TFL3", 4) != 0) {
    return FMC_PLAN_NOT_A_MODEL;
  }
  root = follow(&r, 0);
  subgraphs = vector_field(&r, root, MODEL_SUBGRAPHS, 4);
  if (!r.sound) {
    return FMC_PLAN_CORRUPT;
  }
  if (subgraphs.length == 0) {
    return FMC_PLAN_NO_SUBGRAPH;
  }
  for (i = 0; i < subgraphs.length && r.sound; ++i) {
    all += vector_field(&r, table_at(&r, subgraphs, i), SUBGRAPH_TENSORS, 4).length;
  }
  tensors = vector_field(&r, table_at(&r, subgraphs, 0), SUBGRAPH_TENSORS, 4);
  status = find_plan(&r, root, &plan);
  if (status != FMC_PLAN_OK) {
    return status;
  }
  /* The plan: version, subgraphs, count, then one offset a tensor, those of the main subgraph
   * first; the runtime plans the others. */
  if (plan.length < 12) {
    return FMC_PLAN_CORRUPT;
  }
  if (tensors.length != count || read_u32(&r, plan.first + 8) != all ||
      (plan.length - 12) / 4 != all) {
    return FMC_PLAN_OTHER_COUNT;
  }
  for (i = 0; i < count && r.sound; ++i) {
    uint32_t size;
    *where = i;
    if (read_i32(&r, plan.first + 12 + 4 * (size_t)i) != offsets[i]) {
      return FMC_PLAN_OTHER_OFFSET;
    }
    if (offsets[i] < 0) {
      continue;
    }
    size = tensor_bytes(&r, table_at(&r, tensors, i));
    if (r.sound && size != (uint32_t)bytes[i]) {
      return FMC_PLAN_OTHER_SIZE;
    }
  }
  for (i = count; i < all && r.sound; ++i) {
    *where = i;
    if (read_i32(&r, plan.first + 12 + 4 * (size_t)i) != -1) {
      return FMC_PLAN_OTHER_OFFSET;
    }
  }
  *where = 0;
  walk_rest(&r, root);
  if (!r.sound) {
    return FMC_PLAN_CORRUPT;
  }
  return FMC_PLAN_OK;
}

const char *fmc_plan_status_text(fmc_plan_status status) {
  switch (status) {
    case FMC_PLAN_OK:
      return "the model carries the plan of arena_plan.h";
    case FMC_PLAN_NOT_A_MODEL:
      return "the bytes are not a TFLite model";
    case FMC_PLAN_CORRUPT:
      return "the model is truncated or corrupted";
    case FMC_PLAN_NO_SUBGRAPH:
      return "the model has no subgraph";
    case FMC_PLAN_MISSING:
      return "the model carries no memory plan";
    case FMC_PLAN_TWICE:
      return "the model carries several memory plans";
    case FMC_PLAN_OTHER_COUNT:
      return "the model has another number of tensors than arena_plan.h";
    case FMC_PLAN_OTHER_OFFSET:
      return "a tensor is planned at another offset than in arena_plan.h";
    case FMC_PLAN_OTHER_SIZE:
      return "a tensor has another size than in arena_plan.h";
  }
  return "unknown status";
}
