use hgc::analysis::{Analysis, shapes::Sizes, invariant};
use prost::Message;
fn main(){
  for p in std::env::args().skip(1){
    let raw=std::fs::read(&p).unwrap();
    let raw = if p.ends_with(".zst") { zstd::decode_all(&raw[..]).unwrap() } else { raw };
    let t=std::time::Instant::now();
    let m=hgc::onnx::proto::ModelProto::decode(bytes::Bytes::from(raw)).unwrap();
    let big = !p.ends_with(".zst");
    let hw = if big {64} else {16};
    let a=match Analysis::of(&m, Sizes{batch:1,height:hw,width:hw,tokens:77}) { Ok(a)=>a, Err(e)=>{println!("{p}: ERR {e}"); continue}};
    let tot=a.macs_of(a.graph.nodes(),1);
    let inv=invariant::find(&a);
    let cross=a.attention.iter().filter(|x|x.kind==hgc::analysis::attention::AttentionKind::Cross).count();
    println!("{p}: {:?} nodes {} unk {} unc {} sym {} macs {:.2}M w {:.2}M attn {} cross {} skips {} inv {} blocks {} t {:?}", a.role, a.graph.node_count(), a.shapes.unknown.len(), a.uncounted().len(), a.shapes.symbolic_batch, tot.all as f64/1e6, tot.weights as f64/1e6, a.attention.len(), cross, a.skips.len(), inv.frontier.len(), a.blocks.len(), t.elapsed());
    println!("   {:?}", a.graph.inputs().iter().zip(&a.kinds).map(|(v,k)|format!("{}={:?}{}",a.graph.name(*v),k,a.shapes.get(*v).map(|s|s.to_string()).unwrap_or("?".into()))).collect::<Vec<_>>().join(" "));
    if std::env::var("V").is_ok(){ for b in &a.blocks { let mm=a.macs_of(b.nodes.iter().copied(),1); println!("   {} {:?} {} nodes {:.2}M {:?}", b.id,b.kind,b.nodes.len(),mm.weights as f64/1e6, b.outputs.iter().map(|v|a.graph.name(*v)).collect::<Vec<_>>()); } 
      println!("unknown {:?}", a.shapes.unknown.iter().take(10).collect::<Vec<_>>());}
  }
}
