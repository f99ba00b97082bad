"""The part of google.firestore.v1 that is served here, written down.

`google.cloud.firestore_v1.types` brings the same messages, but importing it runs the whole client library (0.8 s and
some 30 MB). A test compares every line below with the descriptors of the installed client library. Fields that are not
served (tags, labels, explain options) are left out: protobuf keeps or skips what it does not know.
Source: google/firestore/v1/{document,common,write,query,aggregation_result,firestore}.proto.

Grammar: a `message` line starts a message; then one field a line: type, name, number, and `in <oneof>`. `map X` is a
map from strings to X; an `enum` is one line.
"""

SCHEMA = """
message Document
  string name 1
  map Value fields 2
  Timestamp create_time 3
  Timestamp update_time 4
message Value
  NullValue null_value 11 in value_type
  bool boolean_value 1 in value_type
  int64 integer_value 2 in value_type
  double double_value 3 in value_type
  Timestamp timestamp_value 10 in value_type
  string string_value 17 in value_type
  bytes bytes_value 18 in value_type
  string reference_value 5 in value_type
  LatLng geo_point_value 8 in value_type
  ArrayValue array_value 9 in value_type
  MapValue map_value 6 in value_type
message ArrayValue
  repeated Value values 1
message MapValue
  map Value fields 1
message DocumentMask
  repeated string field_paths 1
message Precondition
  bool exists 1 in condition_type
  Timestamp update_time 2 in condition_type
message TransactionOptions
  TransactionOptions.ReadOnly read_only 2 in mode
  TransactionOptions.ReadWrite read_write 3 in mode
message TransactionOptions.ReadWrite
  bytes retry_transaction 1
message TransactionOptions.ReadOnly
  Timestamp read_time 2 in consistency_selector
message Write
  Document update 1 in operation
  string delete 2 in operation
  string verify 5 in operation
  DocumentTransform transform 6 in operation
  DocumentMask update_mask 3
  repeated DocumentTransform.FieldTransform update_transforms 7
  Precondition current_document 4
message DocumentTransform
  string document 1
  repeated DocumentTransform.FieldTransform field_transforms 2
message DocumentTransform.FieldTransform
  string field_path 1
  DocumentTransform.FieldTransform.ServerValue set_to_server_value 2 in transform_type
  Value increment 3 in transform_type
  Value maximum 4 in transform_type
  Value minimum 5 in transform_type
  ArrayValue append_missing_elements 6 in transform_type
  ArrayValue remove_all_from_array 7 in transform_type
enum DocumentTransform.FieldTransform.ServerValue SERVER_VALUE_UNSPECIFIED=0 REQUEST_TIME=1
message WriteResult
  Timestamp update_time 1
  repeated Value transform_results 2
message DocumentChange
  Document document 1
  repeated int32 target_ids 5
  repeated int32 removed_target_ids 6
message DocumentDelete
  string document 1
  repeated int32 removed_target_ids 6
  Timestamp read_time 4
message DocumentRemove
  string document 1
  repeated int32 removed_target_ids 2
  Timestamp read_time 4
message ExistenceFilter
  int32 target_id 1
  int32 count 2
message StructuredQuery
  StructuredQuery.Projection select 1
  repeated StructuredQuery.CollectionSelector from 2
  StructuredQuery.Filter where 3
  repeated StructuredQuery.Order order_by 4
  Cursor start_at 7
  Cursor end_at 8
  int32 offset 6
  Int32Value limit 5
  StructuredQuery.FindNearest find_nearest 9
message StructuredQuery.CollectionSelector
  string collection_id 2
  bool all_descendants 3
message StructuredQuery.Filter
  StructuredQuery.CompositeFilter composite_filter 1 in filter_type
  StructuredQuery.FieldFilter field_filter 2 in filter_type
  StructuredQuery.UnaryFilter unary_filter 3 in filter_type
message StructuredQuery.CompositeFilter
  StructuredQuery.CompositeFilter.Operator op 1
  repeated StructuredQuery.Filter filters 2
enum StructuredQuery.CompositeFilter.Operator OPERATOR_UNSPECIFIED=0 AND=1 OR=2
message StructuredQuery.FieldFilter
  StructuredQuery.FieldReference field 1
  StructuredQuery.FieldFilter.Operator op 2
  Value value 3
enum StructuredQuery.FieldFilter.Operator OPERATOR_UNSPECIFIED=0 LESS_THAN=1 LESS_THAN_OR_EQUAL=2 GREATER_THAN=3 \
GREATER_THAN_OR_EQUAL=4 EQUAL=5 NOT_EQUAL=6 ARRAY_CONTAINS=7 IN=8 ARRAY_CONTAINS_ANY=9 NOT_IN=10
message StructuredQuery.UnaryFilter
  StructuredQuery.UnaryFilter.Operator op 1
  StructuredQuery.FieldReference field 2 in operand_type
enum StructuredQuery.UnaryFilter.Operator OPERATOR_UNSPECIFIED=0 IS_NAN=2 IS_NULL=3 IS_NOT_NAN=4 IS_NOT_NULL=5
message StructuredQuery.Order
  StructuredQuery.FieldReference field 1
  StructuredQuery.Direction direction 2
enum StructuredQuery.Direction DIRECTION_UNSPECIFIED=0 ASCENDING=1 DESCENDING=2
message StructuredQuery.FieldReference
  string field_path 2
message StructuredQuery.Projection
  repeated StructuredQuery.FieldReference fields 2
message StructuredQuery.FindNearest
  StructuredQuery.FieldReference vector_field 1
message Cursor
  repeated Value values 1
  bool before 2
message StructuredAggregationQuery
  StructuredQuery structured_query 1 in query_type
  repeated StructuredAggregationQuery.Aggregation aggregations 3
message StructuredAggregationQuery.Aggregation
  StructuredAggregationQuery.Aggregation.Count count 1 in operator
  StructuredAggregationQuery.Aggregation.Sum sum 2 in operator
  StructuredAggregationQuery.Aggregation.Avg avg 3 in operator
  string alias 7
message StructuredAggregationQuery.Aggregation.Count
  Int64Value up_to 1
message StructuredAggregationQuery.Aggregation.Sum
  StructuredQuery.FieldReference field 1
message StructuredAggregationQuery.Aggregation.Avg
  StructuredQuery.FieldReference field 1
message AggregationResult
  map Value aggregate_fields 2
message GetDocumentRequest
  string name 1
  DocumentMask mask 2
  bytes transaction 3 in consistency_selector
  Timestamp read_time 5 in consistency_selector
message ListDocumentsRequest
  string parent 1
  string collection_id 2
  int32 page_size 3
  string page_token 4
  string order_by 6
  DocumentMask mask 7
  bytes transaction 8 in consistency_selector
  Timestamp read_time 10 in consistency_selector
  bool show_missing 12
message ListDocumentsResponse
  repeated Document documents 1
  string next_page_token 2
message CreateDocumentRequest
  string parent 1
  string collection_id 2
  string document_id 3
  Document document 4
  DocumentMask mask 5
message UpdateDocumentRequest
  Document document 1
  DocumentMask update_mask 2
  DocumentMask mask 3
  Precondition current_document 4
message DeleteDocumentRequest
  string name 1
  Precondition current_document 2
message BatchGetDocumentsRequest
  string database 1
  repeated string documents 2
  DocumentMask mask 3
  bytes transaction 4 in consistency_selector
  TransactionOptions new_transaction 5 in consistency_selector
  Timestamp read_time 7 in consistency_selector
message BatchGetDocumentsResponse
  Document found 1 in result
  string missing 2 in result
  bytes transaction 3
  Timestamp read_time 4
message BeginTransactionRequest
  string database 1
  TransactionOptions options 2
message BeginTransactionResponse
  bytes transaction 1
message CommitRequest
  string database 1
  repeated Write writes 2
  bytes transaction 3
message CommitResponse
  repeated WriteResult write_results 1
  Timestamp commit_time 2
message RollbackRequest
  string database 1
  bytes transaction 2
message RunQueryRequest
  string parent 1
  StructuredQuery structured_query 2 in query_type
  bytes transaction 5 in consistency_selector
  TransactionOptions new_transaction 6 in consistency_selector
  Timestamp read_time 7 in consistency_selector
message RunQueryResponse
  bytes transaction 2
  Document document 1
  Timestamp read_time 3
  int32 skipped_results 4
  bool done 6 in continuation_selector
message RunAggregationQueryRequest
  string parent 1
  StructuredAggregationQuery structured_aggregation_query 2 in query_type
  bytes transaction 4 in consistency_selector
  TransactionOptions new_transaction 5 in consistency_selector
  Timestamp read_time 6 in consistency_selector
message RunAggregationQueryResponse
  AggregationResult result 1
  bytes transaction 2
  Timestamp read_time 3
message ListCollectionIdsRequest
  string parent 1
  int32 page_size 2
  string page_token 3
message ListCollectionIdsResponse
  repeated string collection_ids 1
  string next_page_token 2
message BatchWriteRequest
  string database 1
  repeated Write writes 2
message BatchWriteResponse
  repeated WriteResult write_results 1
  repeated Status status 2
message ListenRequest
  string database 1
  Target add_target 2 in target_change
  int32 remove_target 3 in target_change
message ListenResponse
  TargetChange target_change 2 in response_type
  DocumentChange document_change 3 in response_type
  DocumentDelete document_delete 4 in response_type
  DocumentRemove document_remove 6 in response_type
  ExistenceFilter filter 5 in response_type
message Target
  Target.QueryTarget query 2 in target_type
  Target.DocumentsTarget documents 3 in target_type
  bytes resume_token 4 in resume_type
  Timestamp read_time 11 in resume_type
  int32 target_id 5
  bool once 6
message Target.DocumentsTarget
  repeated string documents 2
message Target.QueryTarget
  string parent 1
  StructuredQuery structured_query 2 in query_type
message TargetChange
  TargetChange.TargetChangeType target_change_type 1
  repeated int32 target_ids 2
  Status cause 3
  bytes resume_token 4
  Timestamp read_time 6
enum TargetChange.TargetChangeType NO_CHANGE=0 ADD=1 REMOVE=2 CURRENT=3 RESET=4
message LatLng
  double latitude 1
  double longitude 2
message Status
  int32 code 1
  string message 2
"""
