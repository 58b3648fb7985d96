int moe_stub(void); int moe_stub(void){return 0;}
